// The API key of this tab: asked for once, kept in the tab's session and nowhere else.
export const keyFor = () => sessionStorage.getItem("finstage-key") ?? "";

export function askForKey() {
  const dialog = document.getElementById("key-dialog");
  const input = document.getElementById("key");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("finstage-key", input.value);
      resolve();
    }, { once: true });
  });
}
