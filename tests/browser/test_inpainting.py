"""Image to image and inpainting as a person uses them, in a real browser, on the launched program."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Locator, Page, Request, expect

from studio.library import metadata
from tests.browser.conftest import Studio, panel, visit


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A landscape of 256 x 192 pixels, as a file."""
    image = Image.new("RGB", (256, 192), "#8fb7df")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 120, 256, 192), fill="#5f9a46")
    draw.ellipse((100, 60, 150, 110), fill="#d0402f")
    path = tmp_path / "landscape.png"
    image.save(path)
    return path


def open_tab(page: Page, title: str) -> Locator:
    """Choose a tab and return what stands in it."""
    page.get_by_role("tab", name=title).click()
    tab = panel(page, title.lower().replace(" ", "_"))
    tab.locator(".stage[data-ready]").wait_for()
    return tab


def bring_in(tab: Locator, file: Path) -> None:
    before = tab.locator(".easel").get_attribute("data-source")
    tab.get_by_label("Picture file").set_input_files(file)
    if before:
        expect(tab.locator(".easel")).not_to_have_attribute("data-source", before)
    expect(tab.locator(".easel[data-source]")).to_be_visible()


def strokes(tab: Locator, count: int) -> None:
    expect(tab.locator(".easel")).to_have_attribute("data-strokes", str(count))


def paint(page: Page, tab: Locator, *points: tuple[float, float]) -> None:
    """A stroke through these points, told as shares of the picture's width and height."""
    canvas = tab.locator("canvas.easel-strokes")
    box = canvas.bounding_box()
    assert box
    before = int(tab.locator(".easel").get_attribute("data-strokes") or 0)
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()
    strokes(tab, before + 1)


def mask_of(tab: Locator) -> np.ndarray:
    """What is painted, as the opacity of each pixel of the canvas."""
    data = tab.locator("canvas.easel-strokes").evaluate(
        """(canvas) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return Array.from(data.filter((_, index) => index % 4 === 3));
        }"""
    )
    return np.array(data)


def fill(tab: Locator, **values: Any) -> None:
    for name, value in values.items():
        tab.get_by_label(name.replace("_", " "), exact=True).first.fill(str(value))


def generate(tab: Locator, state: str = "finished", count: int = 1) -> None:
    # The tiles of before may still say that they are finished when the new ones are asked for.
    tab.locator(".tile").evaluate_all("tiles => tiles.forEach((tile) => (tile.dataset.before = true))")
    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator(f".tile[data-state={state}]:not([data-before])")).to_have_count(count)


def newest(studio: Studio) -> tuple[np.ndarray, Any]:
    """The pixels and the recipe of the picture made last."""
    path = studio.files()[-1]
    found = metadata.read(path)
    assert found
    return np.asarray(Image.open(path).convert("RGB")).astype(int), found[0]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_only_what_is_masked_changes(page: Page, studio: Studio, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paint(page, tab, (0.4, 0.35), (0.55, 0.5))
    fill(tab, Prompt="a ghost", Steps=6, Feather=0, Seed=3)
    generate(tab)
    result, recipe = newest(studio)
    changed = np.abs(result - pixels(picture)).max(-1) > 0
    assert 0.01 < changed.mean() < 0.4
    mask = np.asarray(Image.open(studio.output / "sources" / f"{recipe.mask}.png"))
    assert mask.shape == (192, 256) and not changed[mask == 0].any()
    left, top, right, bottom = recipe.box
    assert right - left < 256 and bottom - top < 192  # the masked region alone was worked on


def test_the_region_changes_in_place(page: Page, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paint(page, tab, (0.4, 0.35), (0.55, 0.5))
    fill(tab, Prompt="a ghost", Steps=500)
    tab.get_by_role("button", name="Generate").click()
    tile = tab.locator(".tile[data-drawn]")
    expect(tile).to_have_count(1)
    box = tile.locator(".frame").bounding_box()
    canvas = tile.locator("canvas").bounding_box()
    assert box and canvas
    assert abs(box["width"] / box["height"] - 256 / 192) < 0.02
    assert canvas["width"] < 0.95 * box["width"] and canvas["x"] > box["x"] and canvas["y"] > box["y"]
    page.keyboard.press("Escape")
    expect(tab.locator(".tile[data-state=paused]")).to_have_count(1)
    tab.get_by_role("button", name="Discard", exact=True).click()


def test_undo_redo_invert_and_clear(page: Page, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paint(page, tab, (0.2, 0.2), (0.4, 0.2))
    one = mask_of(tab)
    paint(page, tab, (0.6, 0.8), (0.8, 0.6))
    two = mask_of(tab)
    assert (two > 0).sum() > (one > 0).sum() > 100
    page.keyboard.press("Control+z")
    strokes(tab, 1)
    assert np.array_equal(mask_of(tab), one)
    page.keyboard.press("Control+y")
    strokes(tab, 2)
    assert np.array_equal(mask_of(tab), two)
    page.keyboard.press("x")
    strokes(tab, 3)
    inverted = mask_of(tab)
    assert inverted[two == 0].min() > 0 and inverted[two == two.max()].max() == 0
    tab.get_by_role("button", name="Clear").click()
    strokes(tab, 4)
    assert mask_of(tab).max() == 0
    tab.get_by_role("button", name="Undo").click()
    strokes(tab, 3)
    assert np.array_equal(mask_of(tab), inverted)


def test_the_mask_stays_when_one_looks_elsewhere_and_after_a_reload(page: Page, studio: Studio, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paint(page, tab, (0.3, 0.3), (0.6, 0.6))
    mask = mask_of(tab)
    open_tab(page, "Text to image")
    open_tab(page, "Inpainting")
    assert np.array_equal(mask_of(tab), mask)
    visit(page, studio)
    tab = open_tab(page, "Inpainting")
    strokes(tab, 1)
    assert np.array_equal(mask_of(tab), mask)


def test_a_result_goes_from_tab_to_tab(page: Page, studio: Studio) -> None:
    text = panel(page, "text_to_image")
    fill(text, Prompt="a house", Steps=3, Seed=4)
    generate(text)
    text.locator(".stage").get_by_role("button", name="Send to").click()
    page.get_by_role("menuitem", name="Inpainting").click()
    tab = panel(page, "inpainting")
    expect(tab.locator(".easel[data-source]")).to_be_visible()
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value("a house")
    paint(page, tab, (0.4, 0.4), (0.6, 0.6))
    fill(tab, Steps=3)
    generate(tab)
    first = tab.locator(".easel").get_attribute("data-source")
    tab.locator(".stage").get_by_role("button", name="Send to").click()
    page.get_by_role("menuitem", name="Inpainting").click()
    expect(tab.locator(".easel")).not_to_have_attribute("data-source", str(first))
    strokes(tab, 1)  # the next round begins with the same mask
    tab.locator(".stage").get_by_role("button", name="Send to").click()
    page.get_by_role("menuitem", name="Image to image").click()
    onward = panel(page, "image_to_image")
    expect(onward.locator(".easel[data-source]")).to_be_visible()
    fill(onward, Steps=4)
    generate(onward)
    assert newest(studio)[1].source and not newest(studio)[1].mask


def test_extending_beyond_a_side(page: Page, studio: Studio, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    tab.locator(".easel").get_by_role("button", name="Extend").click()
    form = page.locator(".panel:popover-open")
    form.get_by_label("Extend right").fill("64")
    form.get_by_role("button", name="Extend", exact=True).click()
    expect(tab.locator(".easel-size")).to_have_text("320 × 192")
    fill(tab, Prompt="a meadow", Steps=4)
    generate(tab)
    result, _ = newest(studio)
    assert result.shape == (192, 320, 3)
    # The mask reaches a little into the picture, so that the old edge is not seen.
    assert np.array_equal(result[:, :230], pixels(picture)[:, :230])


def test_a_touch_paints(page: Page, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    box = tab.locator("canvas.easel-strokes").bounding_box()
    assert box
    client = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "id": number}
            for number, (x, y) in enumerate(points)
        ]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (0.3, 0.5))
    for step in range(8):
        touch("touchMove", (0.3 + step * 0.05, 0.5))
    touch("touchEnd")
    strokes(tab, 1)
    assert (mask_of(tab) > 0).sum() > 200
    client.detach()


def test_a_large_picture_stays_fluent_and_its_mask_small(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.linear_gradient("L").resize((2048, 2048)).convert("RGB").save(path)
    tab = open_tab(page, "Inpainting")
    bring_in(tab, path)
    sent: list[int] = []

    def on_request(request: Request) -> None:
        if "/masks" in request.url:
            sent.append(len(request.post_data_buffer or b""))

    page.on("request", on_request)
    paint(page, tab, *[(0.2 + 0.03 * step, 0.3 + 0.2 * (step % 2)) for step in range(20)])
    fill(tab, Prompt="a moon", Steps=2)
    fill(tab, Prompt="a star")
    assert sent == []  # nothing is sent until it is asked for
    generate(tab)
    assert len(sent) == 1 and sent[0] < 500_000
    generate(tab)
    assert len(sent) == 1  # and an unchanged mask not again


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("empty.png", b"", "empty"),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("paper.png", b"%PDF-1.7\n", "PDF"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "damaged|cut short|no picture"),
    ],
)
def test_a_file_that_is_no_picture_is_told_and_nothing_is_lost(
    page: Page, picture: Path, tmp_path: Path, faults: list[str], name: str, data: bytes, told: str
) -> None:
    tab = open_tab(page, "Inpainting")
    bring_in(tab, picture)
    paint(page, tab, (0.3, 0.3), (0.5, 0.5))
    bad = tmp_path / name
    bad.write_bytes(data)
    tab.get_by_label("Picture file").set_input_files(bad)
    expect(tab.locator(".easel").get_by_role("alert")).to_have_text(re.compile(told))
    strokes(tab, 1)
    # The browser writes every answer of this kind into its console.
    faults[:] = [fault for fault in faults if "status of 422" not in fault]


def test_an_empty_mask_is_told(page: Page, picture: Path) -> None:
    tab = open_tab(page, "Inpainting")
    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator("#inpainting-notice")).to_contain_text("no picture to paint on")
    bring_in(tab, picture)
    tab.get_by_role("button", name="Generate").click()
    expect(tab.locator("#inpainting-notice")).to_contain_text("mask is empty")


def test_an_intent_sets_the_rest(page: Page) -> None:
    tab = open_tab(page, "Inpainting")
    tab.get_by_role("button", name="Background").click()
    expect(tab.get_by_role("radio", name="Outside")).to_be_checked()
    expect(tab.get_by_role("radio", name="Whole picture")).to_be_checked()
    tab.get_by_role("button", name="Change").click()
    expect(tab.get_by_role("radio", name="Inside the mask")).to_be_checked()
    expect(tab.get_by_text("15 of 25 steps are run")).to_be_visible()


def test_image_to_image_follows_the_picture_and_the_strength(page: Page, studio: Studio, picture: Path) -> None:
    tab = open_tab(page, "Image to image")
    bring_in(tab, picture)
    expect(tab.get_by_label("Height", exact=True)).to_have_value("192")
    expect(tab.get_by_label("Width", exact=True)).to_have_value("256")
    fill(tab, Prompt="a house", Steps=4, Strength=0)
    generate(tab)
    same, _ = newest(studio)
    fitted = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert np.abs(same - fitted).mean() < 12
    fill(tab, Strength=1)
    generate(tab)
    other, recipe = newest(studio)
    assert recipe.steps_run == 4 and np.abs(other - fitted).mean() > 25


def test_a_sketch_on_a_blank_sheet(page: Page, studio: Studio) -> None:
    tab = open_tab(page, "Image to image")
    tab.get_by_role("button", name="Blank").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Sheet width").fill("128")
    dialog.get_by_label("Sheet height").fill("128")
    dialog.get_by_role("button", name="Put on the easel").click()
    paint(page, tab, (0.3, 0.5), (0.7, 0.5))
    fill(tab, Prompt="a boat", Steps=4)
    generate(tab)
    _, recipe = newest(studio)
    sketch = np.asarray(Image.open(studio.output / "sources" / f"{recipe.source}.png").convert("RGB")).astype(int)
    assert sketch.shape == (128, 128, 3)
    assert (sketch[0, 0] == 255).all() and sketch[64, 64].min() < 120


def test_variations_before_and_after_and_use_these_settings(page: Page, studio: Studio, picture: Path) -> None:
    tab = open_tab(page, "Image to image")
    bring_in(tab, picture)
    fill(tab, Prompt="a red house", Steps=4, Strength=0.5, Seed=9)
    generate(tab)
    tab.locator(".frame").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Before / after").click()
    handle = dialog.get_by_label("Before and after")
    before = handle.input_value()
    handle.press("ArrowRight")
    assert handle.input_value() != before
    page.keyboard.press("Escape")
    tab.locator(".stage").get_by_role("button", name="Send to").click()
    page.get_by_role("menuitem", name="Subtle").click()
    expect(tab.locator(".tile[data-state=finished]")).to_have_count(4)
    seeds = {metadata.read(path)[0].seed for path in studio.files()[-4:]}  # type: ignore[index]
    assert len(seeds) == 4

    text = open_tab(page, "Text to image")
    text.locator(".thumbnail").nth(4).click()
    page.get_by_role("dialog").get_by_role("button", name="Use these settings").click()
    expect(tab.get_by_label("Prompt", exact=True)).to_be_visible()
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value("a red house")
    expect(tab.get_by_label("Seed", exact=True)).to_have_value("9")
    expect(tab.locator(".easel[data-source]")).to_be_visible()


def test_paste_and_drop(page: Page, picture: Path) -> None:
    tab = open_tab(page, "Image to image")
    give = """(target, [bytes, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "p.png", { type: "image/png" }));
        const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
                                       : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
        target.dispatchEvent(event);
    }"""
    expect(tab.locator(".easel[data-ready]")).to_be_visible()  # before that there is nobody to take what is pasted
    tab.locator(".easel").evaluate(give, [list(picture.read_bytes()), "paste"])
    expect(tab.locator(".easel-size")).to_have_text("256 × 192")
    small = io.BytesIO()
    Image.new("RGB", (64, 80), "red").save(small, "PNG")
    tab.locator(".easel").evaluate(give, [list(small.getvalue()), "drop"])
    expect(tab.locator(".easel-size")).to_have_text("64 × 80")


@pytest.mark.parametrize("title", ["Image to image", "Inpainting"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_small_screen(page: Page, picture: Path, title: str, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    tab = open_tab(page, title)
    bring_in(tab, picture)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = tab.locator("canvas.easel-strokes").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] < 500
    expect(tab.get_by_role("button", name="Generate")).to_be_in_viewport(ratio=1)


def test_what_was_set_is_there_after_a_reload(page: Page, studio: Studio) -> None:
    tab = open_tab(page, "Inpainting")
    fill(tab, Prompt="a bridge", Feather=9, Strength=0.4)
    tab.get_by_text("Whole picture", exact=True).click()
    page.wait_for_function(
        """async () => {
          const { recall } = await import(new URL("page/common/memory.js", document.baseURI));
          const kept = await recall("inpainting");
          return kept?.area === "whole" && kept.feather === 9;
        }"""
    )
    visit(page, studio)
    tab = open_tab(page, "Inpainting")
    expect(tab.get_by_label("Prompt", exact=True)).to_have_value("a bridge")
    expect(tab.get_by_label("Feather", exact=True)).to_have_value("9")
    expect(tab.get_by_role("radio", name="Whole picture")).to_be_checked()
