"""BatchEnsemble against formulas in PyTorch, and against its authors' package."""

import numpy as np
import pytest
from builders import OUTPUTS, features, network, targets
from test_batch_ensemble import SCALINGS, tabm

import fastnn as fnn


class Twin:
    """TabM in PyTorch, with copies of a network's parameters under the same names."""

    def __init__(self, net, scaling):
        self.torch = pytest.importorskip("torch")
        self.scaling = scaling
        self.named = {
            name: self.torch.tensor(values).requires_grad_()
            for name, values in net.parameters.items()
        }

    def forward(self, X):
        p = self.named
        x = self.torch.tensor(X)[:, None] * p["0.r"]
        for i, name in enumerate(("0.0.", "0.2.")):
            if i > 0 and self.scaling == "all":
                x = x * p[f"{name}r"]
            x = x @ p[f"{name}weight"]
            if self.scaling == "all":
                x = x * p[f"{name}s"]
            x = self.torch.relu(x + p[f"{name}bias"])
        return self.torch.einsum("rmi,mio->rmo", x, p["0.4.weight"]) + p["0.4.bias"]

    def loss(self, X, y):
        z = self.forward(X)
        labels = self.torch.tensor(y).repeat_interleave(z.shape[1])
        return self.torch.nn.functional.cross_entropy(z.flatten(0, 1), labels)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_pytorch(engine, scaling):
    """Outputs and gradients, then ten steps of AdamW."""
    X, y = features(64, 10).astype(np.float32), targets("labels", 64)
    ensemble = tabm(scaling, members=8, width=32)
    net = network([ensemble], "softmax_cross_entropy", engine, "float32", inputs=10)
    twin = Twin(net, scaling)
    np.testing.assert_allclose(net.forward(X), twin.forward(X).detach(), rtol=1e-5, atol=1e-5)
    loss, gradients = net.gradients(X, y)
    expected = twin.loss(X, y)
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    for name, found in gradients.items():
        np.testing.assert_allclose(found, twin.named[name].grad, atol=1e-5, err_msg=name)
    bias = [p for name, p in twin.named.items() if name.endswith("bias")]
    rest = [p for name, p in twin.named.items() if not name.endswith("bias")]
    groups = [{"params": rest}, {"params": bias, "weight_decay": 0.0}]
    optimizer = twin.torch.optim.AdamW(groups, 2e-3, weight_decay=3e-4)
    for _ in range(10):
        optimizer.zero_grad()
        twin.loss(X, y).backward()
        optimizer.step()
    net.fit(X, y, 10, 64, fnn.AdamW(2e-3, weight_decay=3e-4), shuffle=False, progress=False)
    for name, values in net.parameters.items():
        np.testing.assert_allclose(values, twin.named[name].detach(), atol=1e-4, err_msg=name)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_authors_package(scaling):
    tabm_package = pytest.importorskip("tabm", reason="the authors' package is not installed")
    torch = pytest.importorskip("torch")
    theirs = tabm_package.TabM(
        n_num_features=10,
        d_out=OUTPUTS,
        k=8,
        n_blocks=2,
        d_block=32,
        dropout=0.0,
        arch_type={"all": "tabm", "first": "tabm-mini"}[scaling],
        start_scaling_init="random-signs",
    )
    ensemble = tabm(scaling, members=8, width=32)
    net = fnn.Network([ensemble], 10, "softmax_cross_entropy")
    blocks = {0: "0.0.", 1: "0.2."}
    names = {"output.weight": "0.4.weight", "output.bias": "0.4.bias"}
    if scaling == "first":
        names["backbone.affine.weight"] = "0.r"
    for i, ours in blocks.items():
        names |= {f"backbone.blocks.{i}.0.{key}": f"{ours}{key}" for key in "rs"}
        names |= {f"backbone.blocks.{i}.0.{key}": f"{ours}{key}" for key in ("weight", "bias")}
    names["backbone.blocks.0.0.r"] = "0.r"
    for name, tensor in theirs.named_parameters():
        values = tensor.detach().numpy()
        is_shared = name.endswith("weight") and "blocks" in name  # (units, n_in) in PyTorch
        net.parameters[names[name]] = values.T if is_shared else values
    X, y = features(64, 10).astype(np.float32), targets("labels", 64)
    z = theirs(torch.tensor(X))
    np.testing.assert_allclose(net.forward(X), z.detach(), rtol=1e-5, atol=1e-5)
    labels = torch.tensor(y).repeat_interleave(8)
    torch.nn.functional.cross_entropy(z.flatten(0, 1), labels).backward()
    gradients = net.gradients(X, y)[1]
    for name, tensor in theirs.named_parameters():
        found = gradients[names[name]]
        is_shared = name.endswith("weight") and "blocks" in name
        np.testing.assert_allclose(
            found.T if is_shared else found, tensor.grad, atol=1e-5, err_msg=name
        )
