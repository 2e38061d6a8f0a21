"use strict";
// Texts in English in, what is shown in the chosen language out. The code says everything in
// English; `zh.json` has the Chinese of each of these texts.

const CHINESE = JSON.parse(document.getElementById("words").textContent);

/** What the page was made in, if somebody asked for it, else what the browser speaks. */
const firstLanguage = () =>
  document.documentElement.dataset.language || (/^zh\b/i.test(navigator.language) ? "zh" : "en");

let language = firstLanguage();

/** A text in the language shown, with what `values` has under each name in braces. */
function say(text, values = {}) {
  const said = language === "zh" ? CHINESE[text] ?? text : text;
  return said.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** `1 row`, `2 rows`: a count of what is named in the singular. */
function many(count, noun) {
  const number = count.toLocaleString("en-US");
  const ending = count === 1 ? "" : noun.endsWith("s") ? "es" : "s";
  return language === "zh" ? say(`{count} ${noun}`, { count: number }) : `${number} ${noun}${ending}`;
}

/** What the data holds in both languages, or in one for both. */
const spoken = (words) => (Array.isArray(words) ? words.map(spoken) : words?.[language] ?? words);

/** What joins the members of a list, and sentences. */
const listed = (words) => words.join(language === "zh" ? "、" : ", ");

const sentences = (words) => words.filter(Boolean).join(language === "zh" ? "" : " ");

// Of the page itself, the texts and attributes as they are in the file.
const written = [...textsIn(document.body)];

function* textsIn(root) {
  for (const element of root.querySelectorAll("*")) {
    if (element.closest("script, style, noscript, [translate=no]")) continue;
    for (const name of ["aria-label", "placeholder", "title"]) {
      const text = element.getAttribute(name);
      if (text) yield { text, put: (said) => element.setAttribute(name, said) };
    }
    for (const node of element.childNodes) {
      const text = node.nodeType === Node.TEXT_NODE ? node.data.replace(/\s+/g, " ") : "";
      if (/[a-z]/i.test(text)) yield { text: text.trim(), put: (said) => { node.data = text.replace(text.trim(), () => said); } };
    }
  }
}

/** Shows what stands in the file, and from now on says the rest, in a language. */
function speak(chosen) {
  language = chosen;
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const { text, put } of written) put(say(text));
}
