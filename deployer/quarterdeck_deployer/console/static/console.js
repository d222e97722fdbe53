// Three small helps; every page works without them. Nothing here evaluates text.
document.documentElement.classList.add("js");

// A form is sent once: the button says that it is busy, a second click goes nowhere.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
  const button = event.submitter;
  if (button) button.setAttribute("aria-busy", "true");
});
// Coming back by the browser's history, forms can be sent again.
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  for (const button of document.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
});

// Copy what stands in the element that the button names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
  button.textContent = "copied";
});

// A state that could not be refreshed is not known any more: it turns grey and says since when.
const stale = (event) => {
  const part = event.target.closest?.("[data-live]");
  if (!part || part.classList.contains("stale")) return;
  part.classList.add("stale");
  const note = part.querySelector("[data-live-note]");
  if (note) note.textContent = `unknown since ${new Date().toISOString().slice(11, 19)} UTC: no answer from the deployer; what was last seen:`;
};
document.addEventListener("htmx:error", stale);
document.addEventListener("htmx:response:error", stale);
