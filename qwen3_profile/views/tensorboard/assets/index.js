// The page of the tab: a choice of runs, and the report of the chosen one in a frame. It looks for
// new runs and rewritten reports by itself; what it shows of a run is text, never markup.

const POLL_MS = 2000;
// A report has no origin of its own, so it cannot read TensorBoard, and cannot leave its frame.
const SANDBOX = "allow-scripts allow-downloads allow-modals";

// The Chinese of what the tab says, where the browser speaks it; else nothing.
let chinese = {};

function say(text, values = {}) {
  const said = chinese[text] ?? text;
  return said.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

async function learn() {
  if (!/^zh\b/i.test(navigator.language)) return;
  try {
    chinese = await (await fetch("./zh.json")).json();
    document.documentElement.lang = "zh-CN";
  } catch {
    // English is better than nothing.
  }
}

export async function render() {
  document.documentElement.lang = "en";
  await learn();
  const style = element("link", { rel: "stylesheet", href: "./style.css" });
  const select = element("select", { id: "run" });
  const label = element("label", { htmlFor: "run", textContent: say("Run") });
  const status = element("p", { id: "status", role: "status" });
  const bar = element("header", {});
  const main = element("main", {});
  bar.append(label, select, status);
  document.title = "Qwen3 profile";
  document.head.append(style);
  document.body.append(bar, main);
  const tab = new Tab(select, status, main);
  select.addEventListener("change", () => tab.show(""));
  await tab.watch();
}

class Tab {
  constructor(select, status, main) {
    this.select = select;
    this.status = status;
    this.main = main;
    this.runs = [];
    this.shown = "";
  }

  async watch() {
    for (;;) {
      followTheme();
      // TensorBoard hides the frame of a tab that is not chosen.
      if (window.innerHeight > 0 && !document.hidden) {
        await this.look();
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async look() {
    let runs;
    try {
      const answer = await fetch("./runs");
      if (!answer.ok) {
        throw new Error(answer.statusText);
      }
      runs = await answer.json();
    } catch {
      this.status.textContent = say("TensorBoard does not answer; the page goes on asking.");
      return;
    }
    const known = new Set(this.runs.map((run) => run.name));
    const added = runs.filter((run) => !known.has(run.name)).map((run) => run.name);
    const news = known.size && added.length ? say("New: {runs}.", { runs: added.join(", ") }) : "";
    if (JSON.stringify(runs) !== JSON.stringify(this.runs)) {
      this.runs = runs;
      this.list();
    }
    this.show(news);
  }

  list() {
    const chosen = this.select.value;
    const options = this.runs.map((run) =>
      element("option", {
        value: run.name,
        textContent: run.facts ? `${run.name} (${run.facts})` : run.name,
      }),
    );
    this.select.replaceChildren(...options);
    if (this.runs.some((run) => run.name === chosen)) {
      this.select.value = chosen;
    }
    this.select.disabled = !this.runs.length;
  }

  // Shows the chosen run, unless it is what is shown already.
  show(news) {
    const run = this.runs.find((each) => each.name === this.select.value);
    const wanted = run ? `${run.name}\n${run.version}` : "";
    const again = run && this.shown.startsWith(`${run.name}\n`) && this.shown !== wanted;
    if (!run) {
      this.main.replaceChildren(element("p", {
        textContent: say("There is no run below the log directory. This makes one: python -m qwen3_profile"),
      }));
    } else if (this.shown !== wanted) {
      this.main.replaceChildren(
        ...(run.version ? loading(frame(run)) : [element("p", { textContent: hintOf(run) })]),
      );
    }
    const told = again ? say("{run} was written again, and is shown anew.", { run: run.name }) : "";
    if (news || told || this.shown !== wanted) {
      this.status.textContent = [news, told].filter(Boolean).join(" ");
    }
    this.shown = wanted;
  }
}

const hintOf = (run) => run.hint[document.documentElement.lang.slice(0, 2)] ?? run.hint;

function frame(run) {
  const query = new URLSearchParams({ run: run.name, version: run.version });
  const made = element("iframe", { src: `./report?${query}`, title: say("Report of {run}", { run: run.name }) });
  made.setAttribute("sandbox", SANDBOX);
  return made;
}

// What is shown until the report is there, and the report.
function loading(report) {
  const spinner = element("p", { className: "loading", textContent: say("Loading the report") });

  report.addEventListener("load", () => spinner.remove());
  return [spinner, report];
}

// TensorBoard says by a class of its page whether it is dark. The report, which cannot see that,
// follows the system, or what is chosen in it.
function followTheme() {
  let dark = false;
  try {
    dark = window.parent.document.body.classList.contains("dark-mode");
  } catch {
    dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  }
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
}

function element(name, properties) {
  const { role, ...rest } = properties;
  const made = Object.assign(document.createElement(name), rest);
  if (role) {
    made.setAttribute("role", role);
  }
  return made;
}
