"""Every kernel assembles for each supported target, without spills, with the expected registers."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "cuda_registers.py"
if not TOOL.exists():
    pytest.skip(
        "tools/ is not beside the tests: they run without the sources", allow_module_level=True
    )
_spec = importlib.util.spec_from_file_location("cuda_registers", TOOL)
registers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(registers)

needs_ptxas = pytest.mark.skipif(
    registers.find_ptxas() is None, reason="ptxas is not installed: it comes with nvidia-cuda-nvcc"
)
SAID = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'kernel' for 'sm_90'
ptxas info    : Function properties for kernel
    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 2048 bytes smem
ptxas info    : Compile time = 5.2 ms
"""
# A kernel that adds one to 32 numbers in shared memory.
TOY = """.version 7.0
.target sm_75
.address_size 64
.visible .entry toy(.param .u64 toy_x)
{
    .shared .align 4 .b8 part[128];
    .reg .b32 %r<4>; .reg .b64 %a<5>; .reg .f32 %f<3>;
    ld.param.u64 %a1, [toy_x];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %a2, %r1, 4;
    cvta.to.global.u64 %a3, %a1;
    add.s64 %a3, %a3, %a2;
    mov.u32 %r2, part;
    shl.b32 %r3, %r1, 2;
    add.u32 %r2, %r2, %r3;
    ld.global.f32 %f1, [%a3];
    st.shared.f32 [%r2], %f1;
    bar.sync 0;
    ld.shared.f32 %f2, [%r2];
    add.f32 %f2, %f2, 0f3F800000;
    st.global.f32 [%a3], %f2;
    ret;
}
"""


def test_what_ptxas_says_is_read():
    assert registers.parse(SAID) == registers.Usage(
        registers=40, stack=16, stores=4, loads=8, shared=2048
    )
    assert registers.parse(SAID.replace(", 2048 bytes smem", "")).shared == 0
    called = (
        SAID
        + """ptxas info    : Function properties for __internal_trig_reduction_slowpathd
    0 bytes stack frame, 32 bytes spill stores, 64 bytes spill loads
"""
    )
    assert registers.parse(called) == registers.Usage(
        registers=40, stack=16, stores=36, loads=72, shared=2048
    )
    with pytest.raises(ValueError, match="one kernel"):
        registers.parse(SAID + SAID)


def test_the_table_is_read_as_it_is_written():
    usage = {
        ("a", "float32", "sm_75"): registers.Usage(1, 2, 3, 4, 5),
        ("longer", "float64", "sm_90"): registers.Usage(6, 0, 0, 0, 48000),
    }
    made_with = {"ptxas": "13.0.88", "numba-cuda": "0.30.4"}
    assert registers.from_text(registers.to_text(usage, made_with)) == (usage, made_with)


@needs_ptxas
def test_a_toy_is_assembled():
    found = registers.measure(["toy"], ["float32"], ptx=lambda name, dtype, capability: TOY)
    assert list(found) == [
        ("toy", "float32", "sm_75"),
        ("toy", "float32", "sm_80"),
        ("toy", "float32", "sm_90"),
    ]
    for usage in found.values():
        assert usage.shared % 1024 in (0, 128)  # the system's own kilobyte from sm_80 on may count
        assert 1 < usage.registers < 32
        assert usage.stack == usage.stores == usage.loads == 0
    with pytest.raises(RuntimeError, match="ptxas refuses"):
        registers.assemble(registers.find_ptxas(), TOY.replace("add.f32", "add.f31"), "sm_80")


# --- the kernels ----------------------------------------------------------------------------------

TABLE, MADE_WITH = (
    registers.from_text(registers.TABLE.read_text()) if registers.TABLE.exists() else ({}, {})
)
# Kernel and number type → permitted bytes of stack, and of spill loads and stores. The kernel of
# the persistent path holds a whole step, and a float64 takes two registers: it is at the limit.
SPILLS = {("train", "float64"): (256, 1024)}
SLACK = 24  # more registers that another version of the compilers may use


def compiler_missing():
    """Why kernels cannot be compiled here."""
    from fastnn._kernels.numba_cuda.toolchain import available

    if available.simulated():
        return "Numba's simulator, which NUMBA_ENABLE_CUDASIM asks for, compiles nothing"
    return available.packages_missing()


@pytest.fixture
def compiler():
    if reason := compiler_missing():
        pytest.skip(f"kernels cannot be compiled: {reason}")


def test_the_table_has_every_kernel(compiler):
    from fastnn._kernels.numba_cuda.kernels.entry_points import KERNELS

    targets = [f"sm_{major}{minor}" for major, minor in registers.CAPABILITIES]
    assert set(TABLE) == {
        (name, dtype, target)
        for name in KERNELS
        for dtype in registers.DTYPES
        for target in targets
    }, "python tools/cuda_registers.py --write"


def check_hot(key, usage):
    """A kernel does not spill, and a block of 256 threads fits the registers."""
    stack, spills = SPILLS.get(key[:2], (0, 0))
    assert usage.stores + usage.loads <= spills, (key, usage)
    assert usage.stack <= stack, (key, usage)
    assert usage.registers * 256 <= 65536, (key, usage)


def test_nothing_in_the_table_spills():
    for key, usage in TABLE.items():
        check_hot(key, usage)


@needs_ptxas
@pytest.mark.parametrize("name", sorted({name for name, _, _ in TABLE}))
def test_kernels_take_what_the_table_says(name, compiler):
    """Exactly with the compilers of the table; with others no spills, and few registers more."""
    found, here = registers.measure([name]), registers.versions()
    for key, usage in found.items():
        expected = TABLE[key]
        if here == MADE_WITH:
            assert usage == expected, f"{key}: python tools/cuda_registers.py --write"
        check_hot(key, usage)
        assert usage.registers <= expected.registers + SLACK, f"{key}: {here} beside {MADE_WITH}"
