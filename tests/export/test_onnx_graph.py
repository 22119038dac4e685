"""An exported network computes what JAX computes, with every option, in two runtimes."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason='needs pip install "jaxlung[export]"')
pytest.importorskip("onnxruntime", reason='needs pip install -e ".[test]"')

from jaxlung.errors import InputError  # noqa: E402
from jaxlung.export import onnx_file  # noqa: E402
from jaxlung.export.exported import prepare_export  # noqa: E402
from jaxlung.export.onnx_graph import build_graph  # noqa: E402
from tests.helpers.random_models import random_canvases, random_model  # noqa: E402

SIDES = ("left_lung", "right_lung", "heart")  # left and right change places in a mirror
# All in one graph: what one option breaks, one of these shows.
MOST = [
    {"attention": True, "residual": True, "norm": "batch", "patch": 1, "tta": True}
    | {"outputs": SIDES},
    {"members": 2, "tta": True, "norm": "group", "patch": 4, "depth": 1, "float16": True},
]
EACH = [
    {},
    {"norm": "batch", "float16": True},
    {"norm": "none"},
    {"residual": True},
    {"attention": True},
    {"patch": 1},
    {"patch": 4, "depth": 3},
    {"standardize": False, "outputs": ("lung",)},
    {"tta": True, "outputs": SIDES},
    {"members": 3},
    {"dtype": "bfloat16", "dropout": 0.3, "remat": True},
    {"attention": True, "norm": "none", "width": 5, "depth": 1},
]


def exported(float16=False, **options):
    return prepare_export(random_model(**options), licence="CC0-1.0", float16=float16)


def differences(one, path, canvases):
    """The largest difference to JAX of each runtime, of a batch, of one image and of a batch."""
    outputs = list(one.model.config.model.outputs)
    truth = one.model.predict_canvases(canvases)
    assert truth.std() > 0.01  # or anything would agree
    for open_file in (onnx_file.run_by_onnxruntime, onnx_file.run_by_opencv):
        _, run = open_file(path, outputs)
        for count in (len(canvases), 1, len(canvases)):
            found = run(canvases[:count])
            assert list(found) == outputs
            yield max(
                np.abs(found[name] - truth[:count, ..., i]).max() for i, name in enumerate(outputs)
            )


def check(options, tmp_path):
    one, path = exported(**options), tmp_path / "net.onnx"
    proto = build_graph(one)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())
    assert max(differences(one, path, random_canvases())) < 1e-4
    return proto


@pytest.mark.parametrize("options", MOST, ids=str)
def test_runtimes_give_the_probabilities_of_jax(options, tmp_path):
    check(options, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("options", EACH, ids=str)
def test_runtimes_give_the_probabilities_of_jax_with_each_option(options, tmp_path):
    check(options, tmp_path)


def test_float16_kernels_are_half_the_file_and_all_else_stays():
    kinds = {}
    for array in build_graph(exported(float16=True)).graph.initializer:
        kinds.setdefault(array.data_type, []).append(array.name)
    half, whole = kinds[onnx.TensorProto.FLOAT16], kinds[onnx.TensorProto.FLOAT]
    assert half and all("kernel" in name for name in half)
    assert whole and not any("kernel" in name for name in whole)
    full, small = (
        build_graph(exported(float16=flag, width=16)).ByteSize() for flag in (False, True)
    )
    assert small < 0.6 * full


def test_the_file_says_what_its_user_needs():
    one = exported(data="ct", outputs=("lung",))
    proto = build_graph(one)
    about = {item.key: item.value for item in proto.metadata_props}
    assert about["size"] == "32" and about["fit"] == "letterbox" and about["threshold"] == "0.5"
    assert about["outputs"] == '["lung"]' and about["window"] == "[-1350.0, 150.0]"
    assert about["license"] == "CC0-1.0" and len(about["weights_sha256"]) == 64
    assert "medical" in about["notice"] and "medical" in proto.doc_string
    [given], [found] = proto.graph.input, proto.graph.output
    assert given.name == "canvas" and found.name == "lung"
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in found.type.tensor_type.shape.dim] == [
        *("batch", 32, 32)
    ]
    assert (proto.opset_import[0].version, proto.ir_version) == (17, 8)


def test_what_float16_cannot_hold_and_a_taken_name_are_refused():
    model = random_model()
    model.variables["params"]["stem"]["kernel"][:] = 1e5
    with pytest.raises(InputError, match="too large for float16; leave out --float16"):
        prepare_export(model, float16=True)
    with pytest.raises(InputError, match="has an output 'canvas'"):
        exported(outputs=("canvas",))
