/* llama marketplace site: a button beside every line that is to be typed. */
"use strict";

{
  const told = document.getElementById("told") || document.getElementById("count");

  async function copy(code) {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return "Copied";
    } catch {
      // Over plain http there is no clipboard to write to: the line is marked, for a key to copy.
      getSelection().selectAllChildren(code);
      return "Marked; copy it by its key";
    }
  }

  for (const code of document.querySelectorAll(".line > code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${code.textContent}`);
    button.addEventListener("click", async () => {
      const said = await copy(code);
      button.textContent = said;
      told.textContent = said;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    code.after(button);
  }
}
