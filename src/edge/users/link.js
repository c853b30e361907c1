"use strict";
const pages = {
  setup: { title: "First admin", path: "/auth/setup", field: "link", isNew: true },
  invitation: { title: "Your invitation", path: "/users/register", field: "invitation", isNew: true },
  password: { title: "New password", path: "/auth/password", field: "link", isNew: false },
};
const [kind, link] = location.hash.slice(1).split(":");
const page = pages[kind];
const form = document.querySelector("form");
const say = (text) => { document.querySelector("output").textContent = text; };
if (page && link) {
  history.replaceState(null, "", location.pathname);
  document.querySelector("h1").textContent = page.title;
  form.hidden = false;
  for (const row of document.querySelectorAll(".new")) row.hidden = !page.isNew;
  form.elements.login.required = page.isNew;
} else {
  say("This link is not complete.");
}
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { [page.field]: link, password: form.elements.password.value };
  if (page.isNew) {
    body.login = form.elements.login.value;
    if (form.elements.name.value) body.name = form.elements.name.value;
    if (form.elements.email.value) body.email = form.elements.email.value;
  }
  say("…");
  try {
    const answer = await fetch(page.path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) {
      form.hidden = true;
      say("Done. You can sign in now.");
      return;
    }
    const problem = await answer.json();
    const faults = (problem.errors || []).map((fault) => `${fault.pointer.slice(1)} ${fault.detail}`);
    const advice = (problem.feedback && problem.feedback.suggestions) || [];
    say([problem.title, ...faults, ...advice].join(". "));
  } catch {
    say("The server cannot be reached.");
  }
});
