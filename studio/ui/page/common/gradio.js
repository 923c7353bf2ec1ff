// What of Gradio's page our scripts rely on: its classes and attributes, which no document of Gradio's speaks of and an upgrade may
// change (known to work in 6.31). All of them stand here; those that styles use stand in the styles. What comes before every module,
// before.js, has one more: the address of Gradio's functions.

/** The name of a field, as Gradio marks it. It takes a component's `label`, and has no id that could be asked for. */
export const FIELD_NAME = "[data-testid='block-info']";

/** The same as attributes, for names of fields that are none of Gradio's. */
export const AS_FIELD_NAME = { "data-testid": "block-info" };

/** What Gradio puts around a field and its name. */
export const FIELD_BLOCK = ".block";

/** The line that opens and closes an accordion. */
export const ACCORDION_LINE = ".label-wrap";

/** The same while the accordion is closed, as a child of the accordion itself. */
export const CLOSED_ACCORDION_LINE = `${ACCORDION_LINE}:not(.open)`;

/** The row of buttons of `gr.Tabs`, as a child of it. */
export const TAB_ROW = ".tab-wrapper";

/** The buttons of all tabs. */
export const TABS = "[role='tab'][data-tab-id]";

/** The button of the tab with this id. */
export const tabOf = (id) => document.querySelector(`[role="tab"][data-tab-id="${id}"]`);

/** The id of the tab that a button of TABS is for. */
export const idOf = (tab) => tab.dataset.tabId;

/** The button of the tab whose panel this element is in; nothing outside of tabs. Gradio ties the two as ARIA says. */
export const tabAround = (element) => document.querySelector(`[aria-controls="${element.closest("[role=tabpanel]")?.id}"]`);

/** The panel of the tab that is shown. */
export const openPanel = () => document.getElementById(document.querySelector("[role=tab][aria-selected=true]").getAttribute("aria-controls"));

/** What a `gr.Textbox` with this `elem_id` is typed into: with several lines, and with one. */
export const linesOf = (id) => document.querySelector(`#${id} textarea`);
export const lineOf = (id) => document.querySelector(`#${id} input`);

/** What any field with this `elem_id` is typed into, or chosen with. */
export const controlIn = (id) => document.querySelector(`#${id} :is(input:not([type=file]), textarea, select, button)`);

/** The fields within a block that can be typed into or chosen. */
export const CONTROLS = "input, textarea, fieldset";

/** The choices of a `gr.Radio`, all together. */
export const CHOICES = "fieldset:has(input[type=radio])";

/** The field of a `gr.Dropdown`. Its list has the id that `aria-controls` says. */
export const DROPDOWN = "[role=combobox]";

/** A button with `variant="primary"`, as a child of its row. */
export const MAIN_BUTTON = ".primary";
