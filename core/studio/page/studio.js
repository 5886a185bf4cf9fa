// The page: a form that orders a study, and the study as it appears. No library, and nothing from elsewhere.
import { Viewer, numbersOf } from "./viewer.js";

const at = (id) => document.getElementById(id);
const RECONNECTS = 5; // lost connections in a row before it is said
let model = null;
let study = null; // the name of the study that is made or shown
let upload = null; // what stops the upload of an order
let viewers = new Map();

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const option = (value, textContent) => element("option", { value, textContent });

async function json(response) {
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `the server answered ${response.status}`);
  return answer;
}

function say(text, isError = false) {
  at("status").textContent = text;
  at("status").classList.toggle("error", isError);
}

// ------------------------------------------------------------------------------------------------------- the form --

function fillForm() {
  at("model").textContent = `Model ${model.name}, MedWeave ${model.version}`;
  for (const text of model.texts) addText(text);
  for (const { name, title } of model.outputs) {
    const box = element("input", { type: "checkbox", name: "output", value: name, checked: true });
    at("outputs").append(element("label", {}, box, ` ${title}`));
  }
  at("files").append(...model.files.map(fileFields));
  at("dropped").append(...model.files.map(({ name, title }) => option(name, title)));
  at("given").hidden = model.files.length === 0;
  at("order").elements.steps.placeholder = model.sampler.steps;
}

function addText({ name, title, prompt, condition }) {
  const hint = element("span", { className: "hint", id: `hint-${name}`, textContent: "Left empty, the study is one of chance." });
  const area = element("textarea", { name: `written.${name}`, maxLength: 20000 });
  area.setAttribute("aria-describedby", hint.id);
  at("texts").append(element("label", {}, title, area), hint);
  if (condition) at("texts").append(element("label", {}, "It is ", roles(name, { prompt, condition })));
  if (prompt) at("negatives").append(element("label", {}, `Not: ${title}`, element("input", { name: `negative.${name}` })));
}

function roles(name, { prompt, condition }) {
  const choices = { prompt: [prompt, "a prompt"], condition: [condition, "a part of the study"] };
  const able = Object.entries(choices).filter(([, [isAble]]) => isAble);
  return element("select", { name: `role.${name}` }, ...able.map(([value, [, text]]) => option(value, text)));
}

function fileFields({ name, title, prompt, condition }) {
  const choice = element("input", { name: `choice.${name}`, placeholder: "slice=middle, slice=40, height=-12, series=3" });
  const role = roles(name, { prompt, condition });
  if (condition) role.value = "condition";
  return element(
    "fieldset", { className: "file" },
    element("legend", { textContent: title }),
    element("label", {}, "File ", element("input", { type: "file", name: `file.${name}`, multiple: true })),
    element("label", {}, "It is ", role),
    element("label", {}, "Slice or series of it ", choice),
  );
}

function order() {
  const data = new FormData(at("order"));
  const kept = new Set(); // modalities that are parts of the study, and so are not generated
  for (const { name } of model.files) {
    const given = data.getAll(`file.${name}`).some((file) => file.name);
    if (given && data.get(`role.${name}`) === "condition") kept.add(name);
    if (!given) for (const key of ["file", "role", "choice"]) data.delete(`${key}.${name}`);
  }
  for (const { name } of model.texts) {
    if (data.get(`written.${name}`).trim() && data.get(`role.${name}`) === "condition") kept.add(name);
  }
  data.set("outputs", data.getAll("output").filter((name) => !kept.has(name)).join(","));
  data.delete("output");
  return data;
}

async function filesOf(items) {
  const found = [];
  const visit = async (entry) => {
    if (entry.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    if (!entry.isDirectory) return;
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (part.length === 0) return;
      for (const inner of part) await visit(inner);
    }
  };
  for (const entry of [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean)) await visit(entry);
  return found;
}

async function drop(event) {
  if (!event.dataTransfer.types.includes("Files")) return; // a piece of text, for a text field
  event.preventDefault();
  if (!model || at("given").hidden) return;
  const over = event.target.closest?.(".file")?.querySelector("input[type=file]"); // or else what is chosen for them
  const input = over ?? at("order").elements[`file.${at("dropped").value}`];
  const chosen = input.name.replace("file.", "");
  const files = await filesOf(event.dataTransfer.items);
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  input.files = transfer.files;
  at("given").open = true;
  say(`${files.length} ${files.length === 1 ? "file" : "files"} as ${title(chosen)}. If they show something else, choose it and drop them again.`);
}

// ------------------------------------------------------------------------------------------------------ the study --

async function generate() {
  if (upload) return; // one is being made
  upload = new AbortController();
  study = null;
  viewers = new Map();
  at("generate").setAttribute("aria-disabled", "true");
  at("shown").replaceChildren();
  at("warnings").replaceChildren();
  at("progress").removeAttribute("value");
  at("progress").hidden = at("stop").hidden = false;
  at("save").hidden = true;
  say("Started.");
  try {
    const answer = await fetch("api/studies", { method: "POST", body: order(), signal: upload.signal });
    study = (await json(answer)).study;
    if (upload.signal.aborted) await fetch(`api/studies/${study}`, { method: "DELETE" });
    await follow();
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else say(error.message, true);
  } finally {
    upload = null;
    at("generate").removeAttribute("aria-disabled");
    at("progress").hidden = true;
    at("step").textContent = "";
    if (document.activeElement === at("stop")) at("generate").focus();
    at("stop").hidden = true;
  }
}

function stop() {
  if (study) fetch(`api/studies/${study}`, { method: "DELETE" });
  else upload?.abort();
}

function follow() {
  return new Promise((resolve, reject) => {
    const events = new EventSource(`api/studies/${study}/events`);
    let lost = 0;
    const finish = (end) => { events.close(); end(); };
    events.onerror = () => {
      lost += 1;
      if (events.readyState === EventSource.CLOSED || lost > RECONNECTS) {
        finish(() => reject(new Error("the connection to the server is lost; is it still running?")));
      } else {
        at("step").textContent = "The connection is lost; trying again";
      }
    };
    events.onopen = () => { lost = 0; };
    events.onmessage = (message) => {
      const event = JSON.parse(message.data);
      if (event.kind === "waiting") say(`Waiting: ${event.before} before this one.`);
      if (event.kind === "warning") at("warnings").append(element("li", { textContent: event.message }));
      if (event.kind === "step") showStep(event);
      if (event.kind === "failed") finish(() => reject(new Error(event.error)));
      if (event.kind === "cancelled") finish(() => { say("Stopped."); resolve(); });
      if (event.kind === "done") finish(() => showStudy(event).then(resolve, reject));
    };
  });
}

function title(name) {
  return [...model.outputs, ...model.files].find((each) => each.name === name).title;
}

// Where an output is shown: in the order of the outputs, whatever is finished first.
function place(name, make) {
  const id = `output-${name}`;
  if (!at(id)) {
    const made = make();
    made.id = id;
    const names = model.outputs.map((output) => `output-${output.name}`);
    const next = [...at("shown").children].find((child) => names.indexOf(child.id) > names.indexOf(id));
    at("shown").insertBefore(made, next ?? null);
  }
  return at(id);
}

function showImage(name, picture, numbers) {
  const figure = place(name, () => {
    const made = at("image").content.firstElementChild.cloneNode(true);
    made.querySelector("figcaption").textContent = title(name);
    made.querySelector("canvas").setAttribute("aria-label", `${title(name)}, synthetic`);
    return made;
  });
  if (!viewers.has(name)) viewers.set(name, new Viewer(figure, picture));
  viewers.get(name).show(picture, numbers);
}

function showText(name, text) {
  const article = place(name, () => element("article", { className: "output text" }, element("h2", { textContent: title(name) }), element("p")));
  article.querySelector("p").textContent = text;
}

function showStep({ step, steps, outputs, pictures, texts }) {
  at("progress").value = step / steps;
  at("step").textContent = `${outputs.map(title).join(", ")}: step ${step} of ${steps}`;
  for (const [name, preview] of Object.entries(pictures)) showImage(name, preview.picture, numbersOf(preview));
  for (const [name, text] of Object.entries(texts)) showText(name, text);
}

async function showStudy({ outputs, formats }) {
  for (const { modality, picture, written, values } of outputs) {
    if (picture) {
      const numbers = await fetch(`api/studies/${study}/data/${modality}`);
      if (!numbers.ok) await json(numbers);
      showImage(modality, picture, new Float32Array(await numbers.arrayBuffer()));
    } else {
      showText(modality, written ?? values.map((value) => value.toPrecision(4)).join("  "));
    }
  }
  at("format").replaceChildren(option("", "one file per modality"), ...formats.map((name) => option(name, name.toUpperCase())));
  at("save").hidden = at("another").hidden = false;
  say("Finished. Drag in a picture to change its level and width.");
}

async function download() {
  try {
    const format = at("format").value;
    const answer = await fetch(`api/studies/${study}/download${format ? `?format=${encodeURIComponent(format)}` : ""}`);
    if (!answer.ok) await json(answer);
    const name = /filename="([^"]*)"/.exec(answer.headers.get("content-disposition"))?.[1] ?? "study.zip";
    const address = URL.createObjectURL(await answer.blob());
    element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  } catch (error) {
    say(error.message, true);
  }
}

at("order").addEventListener("submit", (event) => { event.preventDefault(); if (model) generate(); });
at("stop").addEventListener("click", stop);
at("another").addEventListener("click", () => {
  if (upload) return; // one is being made
  const { seed } = at("order").elements;
  seed.value = (Number.parseInt(seed.value, 10) || 0) + 1;
  generate();
});
at("download").addEventListener("click", download);
document.addEventListener("dragover", (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
document.addEventListener("drop", (event) => drop(event).catch((error) => say(error.message, true)));

fetch("api/model").then(json).then((found) => { model = found; fillForm(); }).catch((error) => say(error.message, true));
