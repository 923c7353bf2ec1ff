"""The page: its look, and its tabs one after another."""

from typing import Any

import gradio as gr
from gradio.themes.utils.colors import Color

from studio.ui import canvas, explained
from studio.ui.painting import Studio
from studio.ui.tabs import compare, image_to_image, inpainting, models, text_to_image

HEAD = """
<link rel="stylesheet" href="page/common/studio.css">
<link rel="stylesheet" href="page/easel/easel.css">
<link rel="stylesheet" href="page/grid/grid.css">
<link rel="stylesheet" href="page/form/addons.css">
<link rel="stylesheet" href="page/models/models.css">
<link rel="stylesheet" href="page/form/help.css">
<link rel="stylesheet" href="page/common/windows.css">
<link rel="stylesheet" href="page/common/touch.css">
<link rel="modulepreload" href="page/stage/stage.js">
<link rel="modulepreload" href="page/easel/easel.js">
<script type="module" src="page/live/tabs.js"></script>
<script type="module" src="page/common/presses.js"></script>
<script type="module" src="page/form/vanished.js"></script>
<script type="module" src="page/common/numbers.js"></script>
<link rel="icon" type="image/svg+xml" href="page/icon.svg">
<meta name="color-scheme" content="light dark">
<script type="module" src="page/form/help.js"></script>
<script type="module" src="page/form/examples.js"></script>
"""


TABS = (
    ("Text to image", text_to_image),
    ("Image to image", image_to_image),
    ("Inpainting", inpainting),
    ("Compare", compare),
    ("Models", models),
)
"""Title and module of each tab, in order."""


def build(studio: Studio) -> tuple[gr.Blocks, dict[str, Any]]:
    """The page, and the looks that are given to Gradio where it is mounted."""
    page = gr.Blocks(title="Emerge Studio", fill_width=True, analytics_enabled=False)
    with page:
        # Outside of the tabs, which Gradio builds in the browser when they are first shown
        # (studio/ui/page/common/places.js waits for that).
        window = canvas.window()
        canvas.header()
        with gr.Tabs(elem_classes="tabs-of-studio"):
            for title, tab in TABS:
                with gr.Tab(title, id=tab.PLACE, elem_id=f"{tab.PLACE}-panel"):
                    tab.build(page, window, studio)
    return page, {"theme": theme(), "head": HEAD + explained.script()}


def theme() -> gr.themes.Base:
    """Quiet greys, so that nothing competes with the pictures, and one warm accent. System fonts only."""
    clay = Color(
        name="clay",
        c50="#fbf3ef", c100="#f6e3da", c200="#ecc5b4", c300="#e0a288", c400="#d58265", c500="#c4623f",
        c600="#b05130", c700="#8f4026", c800="#6d321f", c900="#4f2619", c950="#2f160e",
    )  # fmt: skip
    grey = Color(
        name="grey",
        c50="#fafaf9", c100="#f3f3f1", c200="#e6e6e3", c300="#d2d2ce", c400="#a3a39e", c500="#74746f",
        c600="#565652", c700="#3d3d3a", c800="#2a2a28", c900="#1d1d1c", c950="#141413",
    )  # fmt: skip
    return gr.themes.Base(
        primary_hue=clay,
        secondary_hue=clay,
        neutral_hue=grey,
        radius_size=gr.themes.sizes.radius_md,
        font=("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"),
        font_mono=("ui-monospace", "Menlo", "Consolas", "monospace"),
    ).set(
        body_background_fill="*neutral_100",
        body_background_fill_dark="*neutral_950",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        block_border_width="0px",
        block_shadow="none",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_title_text_size="*text_sm",
        body_text_color_subdued="#63635e",
        input_placeholder_color="#63635e",
        input_placeholder_color_dark="*neutral_400",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_400",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_shadow="none",
        input_shadow_focus="none",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        layout_gap="14px",
    )
