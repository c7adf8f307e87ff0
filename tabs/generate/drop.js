// A picture dropped anywhere onto the Generate tab goes where its settings are read, and no drop makes the browser leave
// the page to show the file. Places that take files themselves, such as the start picture, keep their drops.
(() => {
  const OWN_PLACES = "[aria-dropeffect], #start, #png-drop";
  let dragsOwn = false; // a picture of this page, moved by accident or to another window

  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const isTaken = (event) => event.defaultPrevented || event.target.closest?.(OWN_PLACES);
  const isWanted = () => !dragsOwn && document.querySelector("#prompt")?.checkVisibility();

  document.addEventListener("dragstart", () => (dragsOwn = true));
  document.addEventListener("dragend", () => (dragsOwn = false));

  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    if (!isTaken(event)) event.dataTransfer.dropEffect = isWanted() ? "copy" : "none";
    event.preventDefault();
  });

  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    const files = [...event.dataTransfer.files];
    if (!isTaken(event) && isWanted() && files.length) {
      handOver(files.find((file) => file.type === "image/png") ?? files[0]);
    }
    event.preventDefault();
  });

  // The input is not there yet while the page is being drawn, nor while an earlier drop is being read.
  function handOver(file, tries = 100) {
    const input = document.querySelector("#page-drop input[type=file]");
    if (!input) {
      if (tries) setTimeout(handOver, 100, file, tries - 1);
      return;
    }
    const one = new DataTransfer();
    one.items.add(file);
    input.files = one.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
})();
