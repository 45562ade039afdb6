"use strict";
// Text is set as text, never as markup: the model's name comes from a file name.
function make(tag, text) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  return made;
}

const lines = {
  "/predict": ["-F image=@photo.jpg", "--data-binary @photo.jpg", "-F image=@one.jpg -F image=@two.jpg"],
};

async function show() {
  const paths = document.getElementById("paths");
  try {
    const described = await (await fetch("openapi.json")).json();
    document.querySelector("h1").textContent = described.info.title;
    paths.replaceChildren(...Object.entries(described.paths).flatMap(([path, ways]) =>
      Object.entries(ways).flatMap(([way, what]) => {
        const address = new URL(path.slice(1), location.href);
        const curl = (lines[path] || [""]).map((options) => `curl ${options ? `${options} ` : ""}${address}`);
        return [make("h2", `${way.toUpperCase()} ${path}`), make("p", what.summary + "."),
          ...(what.description ? [make("p", what.description)] : []), make("pre", curl.join("\n"))];
      })));
  } catch (error) {
    paths.textContent = `No answer from the server: ${error.message}`;
  }
}

show();
