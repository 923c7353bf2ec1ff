// Runs before Gradio's own scripts, which come with the page.

/** What Gradio takes for an answer of the studio when there is none: else it would lay a message over the page, and load
 * it anew when the studio is back. `live.js` says it, and connects again. */
const NO_ANSWER = { error: "The studio does not answer." };

const reach = window.fetch;
window.fetch = async (...request) => {
  try {
    return await reach(...request);
  } catch (error) {
    if (!String(request[0]?.url ?? request[0]).includes("gradio_api/run/")) throw error;
    return Response.json(NO_ANSWER, { status: 503 });
  }
};
