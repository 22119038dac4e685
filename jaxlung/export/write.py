"""Writes a model in a format that other runtimes open."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxlung.errors import InputError
from jaxlung.export.exported import prepare_export
from jaxlung.export.formats import FORMATS, Format
from jaxlung.predict.load import ModelLike, load
from jaxlung.predict.predictor import Predictor
from jaxlung.system.files import check_file
from jaxlung.weights import bundled


def export_model(
    model: ModelLike | Sequence[ModelLike] = bundled.DEFAULT,
    *,
    out: str | os.PathLike[str],
    format: str = "onnx",
    float16: bool = False,
    tta: bool = False,
    overwrite: bool = False,
) -> str:
    """Writes a model as a file that runs without jaxlung: see docs/export.md.

    The file takes canvases, uint8 [B, S, S], and gives the probabilities of each structure,
    float32 [B, S, S], by its name. Its arithmetic is float32, whatever `model.dtype` is. It appears
    once its probabilities on phantoms are those of JAX.

    Args:
        model: a bundled model's name or a workdir; or several, an ensemble, whose mean
            probability the file gives.
        out: the file to write.
        format: "onnx"; "stablehlo", which is for JAX, with OUT.json beside it; "html", a page that
            finds lungs in films by itself (docs/browser.md); or "html-site", the same page as a
            folder for a web server.
        float16: keep kernels as float16, which halves the file. A bundled model loses nothing by
            it, since it comes so.
        tta: average with the mirror image's prediction, in twice the time.
        overwrite: replace a file that is there.

    Returns:
        What was written and how it was checked, in a line.

    Raises:
        InputError: as `load`; an extra is not installed; the file exists; or what was written does
            not compute what JAX does.

    Example:
        >>> export_model("cxr", out="lungs.tflite", format="tflite")
        Traceback (most recent call last):
        jaxlung.errors.InputError: format must be onnx, stablehlo, html, html-site, got 'tflite'
    """
    if format not in FORMATS:
        raise InputError(f"format must be {', '.join(FORMATS)}, got {format!r}")
    chosen, out = FORMATS[format], Path(out)
    chosen.check_extra()
    check_out(out, chosen, overwrite=overwrite)
    models = [model] if isinstance(model, str | os.PathLike) else list(model)
    loaded = load(models if len(models) > 1 else models[0], tta=tta)
    exported = prepare_export(
        loaded,
        licence=_licence(models, loaded),
        float16=float16 or chosen.halves,
        name="+".join(Path(one).name for one in models),
    )
    found = chosen.write(exported, out)
    terms = f"; its weights are under {exported.licence}" if exported.licence else ""
    files = out.iterdir() if chosen.is_folder else [out]
    size = sum(file.stat().st_size for file in files)
    return f"{out}: {format}, {size / 1e6:.1f} MB, {found}{terms}"


def check_out(out: Path, format: Format, *, overwrite: bool = False) -> None:
    """Checks that a format's file, or its folder, can be written, before long work.

    Raises:
        InputError: as `check_file`; a file is where the folder is to be; or the folder to replace
            holds other files than an export writes, which would be lost.
    """
    if not format.is_folder:
        check_file(out, format.beside, overwrite=overwrite)
    elif out.is_dir() and not overwrite:
        raise InputError(f"{out} exists; name another folder, or pass --overwrite")
    elif not out.is_dir():
        check_file(out)
    elif others := sorted({path.name for path in out.iterdir()} - {*format.files}):
        raise InputError(
            f"{out}: holds {others[0]}, which --overwrite would remove; name a folder of its own"
        )


def _licence(models: Sequence[ModelLike], loaded: Predictor) -> str:
    """Joins the licences of bundled models among these, and of the one that a run began with."""
    names = {str(model) for model in models if bundled.is_model_name(model)}
    if bundled.is_model_name(begun := loaded.config.train.init_from) and not loaded.bundled:
        names.add(begun)
    return " AND ".join(sorted({bundled.read_model(name).license for name in names}))
