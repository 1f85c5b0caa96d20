"""What a network is made of: layers, activations, initialisers, losses, and their lowering."""
