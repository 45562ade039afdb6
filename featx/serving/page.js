"use strict";
const at = (id) => document.getElementById(id);
let given = null;
let latest = 0;

// Text is set as text, never as markup: class names come from folder names.
function make(tag, text) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  return made;
}

function show(answer) {
  at("top").replaceChildren(...answer.top.map(({ label, probability }) => {
    const line = make("li");
    const bar = make("meter");
    bar.value = probability;
    line.append(bar, make("span", `${label} ${(100 * probability).toFixed(1)} %`));
    return line;
  }));
  at("near").replaceChildren(...answer.near.map(({ label, cosine, image }) => {
    const figure = make("figure");
    if (image) {
      const shown = make("img");
      shown.src = image;
      shown.alt = `training image of ${label}`;
      figure.append(shown);
    }
    figure.append(make("figcaption", `${label} ${cosine.toFixed(3)}`));
    return figure;
  }));
  at("seen").hidden = !answer.activation;
  if (answer.activation) at("activation").src = answer.activation;
  at("class").textContent = answer.top[0].label;
  at("note").textContent = answer.note || "";
  at("result").hidden = false;
}

// Only a server whose model is loading says when to ask again.
function isLoading(response) {
  return response.status === 503 && response.headers.has("retry-after");
}

function pause(response) {
  const seconds = Number(response.headers.get("retry-after")) || 2;
  return new Promise((done) => setTimeout(done, 1000 * seconds));
}

function setStatus(text, wrong) {
  at("status").textContent = text;
  at("status").className = wrong ? "error" : "";
}

async function ask(file) {
  const mine = ++latest;
  if (given) URL.revokeObjectURL(given);
  given = URL.createObjectURL(file);
  at("given").src = given;
  at("result").hidden = true;
  setStatus("Predicting …");
  try {
    const request = { method: "POST", body: file };
    let response = await fetch("predict?explain=1", request);
    while (isLoading(response) && mine === latest) {
      setStatus("The model is still loading; this image is next …");
      await pause(response);
      if (mine === latest) response = await fetch("predict?explain=1", request);
    }
    if (mine !== latest) return;
    const answer = await response.json();
    if (mine !== latest) return;
    if (!response.ok) return setStatus(answer.error, true);
    setStatus("");
    show(answer);
  } catch (error) {
    if (mine === latest) setStatus(`No answer from the server: ${error.message}`, true);
  }
}

const drop = at("drop");
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
}
drop.addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
});
for (const name of ["file", "photo"]) {
  at(name).addEventListener("change", (event) => {
    if (event.target.files.length) ask(event.target.files[0]);
    event.target.value = "";  // so that the same file can be chosen again
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) ask(event.clipboardData.files[0]);
});

async function introduce() {
  at("curl").textContent = `curl -F image=@photo.jpg ${new URL("predict", location.href)}`;
  try {
    let response = await fetch("metadata");
    while (isLoading(response)) {
      at("model").textContent = "The model is loading. An image can be chosen already; it is answered as soon as possible.";
      await pause(response);
      response = await fetch("metadata");
    }
    const model = await response.json();
    document.title = `${model.name}: what is in this image?`;
    at("model").textContent = `${model.name}: ${model.classes.length} classes, ${model.backbone}`;
  } catch (error) {
    at("model").textContent = `No answer from the server: ${error.message}`;
  }
}

introduce();
