// A button beside each command that copies it, or selects it where the browser does not let a page copy.
document.querySelectorAll(".command code").forEach(code => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  button.setAttribute("aria-label", "copy " + code.textContent);
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(code);
    try { await navigator.clipboard.writeText(code.textContent); button.textContent = "copied"; } catch { button.textContent = "selected"; }
  });
  code.after(" ", button);
});
