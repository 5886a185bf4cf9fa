// The page: a form that orders a study, and the study as it appears. No library, and nothing from elsewhere.
import { Viewer, showThumbnail } from "/static/viewer.js";

const at = (id) => document.getElementById(id);
let model = null;
let current = null; // the name of the study that is shown

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function json(response) {
  const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
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
  for (const { name, title } of model.texts) {
    const hint = element("span", { className: "hint", id: `hint-${name}`, textContent: "Leave it empty for a study of chance." });
    const area = element("textarea", { name: `text.${name}`, maxLength: 20000 });
    area.setAttribute("aria-describedby", hint.id);
    at("texts").append(element("label", {}, title, area), hint);
    at("negatives").append(element("label", {}, `Not: ${title}`, element("input", { name: `negative.${name}` })));
  }
  for (const { name, title } of model.outputs) {
    at("outputs").append(element("label", {}, element("input", { type: "checkbox", name: "output", value: name, checked: true }), ` ${title}`));
  }
  at("files").append(...model.files.filter((file) => !model.texts.some(({ name }) => name === file.name)).map(fileFields));
  at("order").elements.steps.placeholder = model.sampler.steps;
  for (const [value, title] of [["", "one file per modality"], ...model.formats.map((name) => [name, name.toUpperCase()])]) {
    at("format").append(element("option", { value, textContent: title }));
  }
  at("generate").disabled = false;
}

function fileFields({ name, title, prompt, condition }) {
  const roles = [condition && ["condition", "part of the study"], prompt && ["prompt", "prompt"]].filter(Boolean);
  const role = element("select", { name: `role.${name}` }, ...roles.map(([value, text]) => element("option", { value, textContent: text })));
  const choice = element("input", { name: `choice.${name}`, placeholder: "slice=middle, slice=40, height=-12, series=3" });
  return element(
    "fieldset", { className: "file" },
    element("legend", { textContent: title }),
    element("label", {}, "File ", element("input", { type: "file", name: `file.${name}`, multiple: true })),
    element("label", {}, "It is a ", role),
    element("label", {}, "Slice or series of it ", choice),
  );
}

function order() {
  const data = new FormData(at("order"));
  const given = model.files.filter(({ name }) => {
    const files = data.getAll(`file.${name}`).filter((file) => file.size > 0);
    if (files.length === 0) for (const key of ["file", "role", "choice"]) data.delete(`${key}.${name}`);
    return files.length > 0 && data.get(`role.${name}`) === "condition";
  });
  const outputs = data.getAll("output").filter((name) => !given.some((file) => file.name === name));
  data.delete("output");
  data.set("outputs", outputs.join(","));
  return data;
}

// ------------------------------------------------------------------------------------------------------ the study --

async function generate() {
  at("generate").disabled = true;
  at("save").hidden = at("another").hidden = true;
  at("shown").replaceChildren();
  at("warnings").replaceChildren();
  at("progress").removeAttribute("value");
  at("progress").hidden = at("stop").hidden = false;
  say("Starting");
  try {
    const { study } = await json(await fetch("/api/studies", { method: "POST", body: order() }));
    current = study;
    await follow(study);
  } catch (error) {
    say(error.message, true);
  } finally {
    at("generate").disabled = false;
    at("progress").hidden = at("stop").hidden = true;
  }
}

function follow(study) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(`/api/studies/${study}/events`);
    const finish = (end) => { events.close(); end(); };
    events.onerror = () => finish(() => reject(new Error("the connection to the server is lost; is it still running?")));
    events.onmessage = (message) => {
      const event = JSON.parse(message.data);
      if (event.kind === "warning") at("warnings").append(element("li", { textContent: event.text }));
      if (event.kind === "step") showStep(event);
      if (event.kind === "failed") finish(() => reject(new Error(event.error)));
      if (event.kind === "cancelled") finish(() => { say("Stopped."); resolve(); });
      if (event.kind === "done") finish(() => showStudy(study, event.outputs).then(resolve, reject));
    };
  });
}

function title(name) {
  return model.outputs.find((output) => output.name === name).title;
}

function place(name, make) {
  const id = `output-${name}`;
  if (!at(id)) {
    const made = make();
    made.id = id;
    // In the order of the outputs, whatever is finished first.
    const names = model.outputs.map((output) => `output-${output.name}`);
    const next = [...at("shown").children].find((child) => names.indexOf(child.id) > names.indexOf(id));
    at("shown").insertBefore(made, next ?? null);
  }
  return at(id);
}

function imagePlace(name) {
  return place(name, () => {
    const figure = at("image").content.firstElementChild.cloneNode(true);
    figure.querySelector("figcaption").textContent = title(name);
    figure.querySelector("canvas").setAttribute("aria-label", `${title(name)}, synthetic`);
    return figure;
  });
}

function showText(name, text) {
  const article = place(name, () => element("article", { className: "output text" }, element("h2", { textContent: title(name) }), element("p")));
  article.querySelector("p").textContent = text;
}

function showStep({ step, steps, outputs, pictures, texts }) {
  at("progress").value = step / steps;
  say(`${outputs.map(title).join(", ")}: step ${step} of ${steps}`);
  for (const [name, picture] of Object.entries(pictures)) showThumbnail(imagePlace(name).querySelector("canvas"), picture);
  for (const [name, text] of Object.entries(texts)) showText(name, text);
}

async function showStudy(study, outputs) {
  for (const { modality, picture, text, values } of outputs) {
    if (picture) {
      const numbers = await fetch(`/api/studies/${study}/data/${modality}`);
      if (!numbers.ok) await json(numbers);
      new Viewer(imagePlace(modality), picture, new Float32Array(await numbers.arrayBuffer()));
    } else {
      showText(modality, text ?? values.map((value) => value.toPrecision(4)).join("  "));
    }
  }
  linkDownload();
  at("save").hidden = at("another").hidden = false;
  say("Finished. Drag in a picture to change its level and width.");
}

function linkDownload() {
  const format = at("format").value;
  at("download").href = `/api/studies/${current}/download${format ? `?format=${encodeURIComponent(format)}` : ""}`;
}

at("order").addEventListener("submit", (event) => { event.preventDefault(); generate(); });
at("stop").addEventListener("click", () => { if (current) fetch(`/api/studies/${current}`, { method: "DELETE" }); });
at("another").addEventListener("click", () => {
  const seed = at("order").elements.seed;
  seed.value = (Number.parseInt(seed.value, 10) || 0) + 1;
  generate();
});
at("format").addEventListener("change", linkDownload);

fetch("/api/model").then(json).then((found) => { model = found; fillForm(); }).catch((error) => say(error.message, true));
