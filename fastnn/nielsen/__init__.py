"""The modules of Nielsen's book, *Neural Networks and Deep Learning*, on the compiled engine.

Its sessions run with their imports changed and nothing else::

    from fastnn.nielsen import mnist_loader, network2

    training_data, validation_data, test_data = mnist_loader.load_data_wrapper()
    net = network2.Network([784, 30, 10])
    net.SGD(training_data, 30, 10, 0.1, lmbda=5.0, evaluation_data=validation_data,
            monitor_evaluation_accuracy=True)
"""

from fastnn.nielsen import mnist_loader, network2

__all__ = ["mnist_loader", "network2"]
