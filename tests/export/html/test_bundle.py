"""Modules become one script: each once, those that are imported first, and no name twice."""

import pytest

from jaxlung.export.html.bundle import bundle


def write(folder, **texts):
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.js").write_text(text)
    return folder


GREY = 'import { GREY } from "./grey.js";\n'
APP = 'import {\n  half,\n} from "./half.js";\n' + GREY + "half(GREY);\n"
HALF = GREY + "export async function half() { return GREY / 2; }\n"
FROM_B = 'import { a } from "./b.js";\n'


def test_imports_come_first_and_once(tmp_path):
    shared = write(tmp_path / "shared", grey="export const GREY = 1;\n")
    text = bundle([write(tmp_path / "own", app=APP, half=HALF), shared], "app")
    assert text.count("const GREY = 1;") == 1
    assert text.index("const GREY") < text.index("async function half") < text.index("half(GREY);")
    assert "import" not in text and "export" not in text


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"app": f"{FROM_B}const a = 1;\n", "b": "export const a = 2;\n"}, "a$"),
        ({"app": f"{FROM_B}let x = 1;\n", "b": "export const [y, x] = c;\n"}, "x$"),
        ({"app": 'import * as b from "./b.js";\n', "b": ""}, "not understood"),
        ({"app": FROM_B}, "no b.js"),
        ({"app": 'const a = "</script>";\n'}, "cannot hold"),
    ],
)
def test_what_would_go_wrong_in_silence_is_refused(tmp_path, texts, message):
    with pytest.raises(ValueError, match=message):
        bundle([write(tmp_path / "own", **texts)], "app")
