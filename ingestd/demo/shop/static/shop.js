// The shop's pages. /ingestd.js sends a page view for each address, and a click for each link and element with data-ingestd.

const PRODUCTS = {
  savings: {
    title: "Daily savings", lead: "3.1 % a year, paid monthly, yours on any day.",
    facts: [["3.1 %", "interest a year"], ["0 €", "fees"], ["1 day", "notice"]],
    text: "For what you may need next year. Move money in and out when you like; the rate is the same from the first euro on.",
  },
  funds: {
    title: "Global fund", lead: "1,600 companies in one fund, for 0.2 % a year.",
    facts: [["1,600", "companies"], ["0.2 %", "a year"], ["25 €", "a month to start"]],
    text: "For what you will not need in the next seven years. One plan, invested on the first of each month.",
  },
  pension: {
    title: "Pension plan", lead: "What you put in today, and what it could be at 67.",
    facts: [["67", "is when it starts"], ["30 %", "less tax on what you put in"], ["Any month", "you may pause"]],
    text: "A plan that becomes safer as you become older. See what is missing, then close the gap.",
  },
};

const main = document.getElementById("main");

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

function action(text, name, className = "button") {
  const button = element("button", className, text);
  button.type = "button";
  button.id = name;
  button.dataset.action = name;
  return button;
}

function home() {
  const cards = Object.entries(PRODUCTS).map(([name, product]) => {
    const card = element("a", `card ${name}`, element("h2", "", product.title), element("p", "", product.lead), element("span", "more", "Look closer →"));
    card.href = `/shop/${name}`;
    return card;
  });
  const hero = element("section", "hero", element("h1", "", "Money that knows where it is going."),
    element("p", "", "Savings, funds and pensions in plain words, and an advisor who calls back."), action("Talk to an advisor", "call-advisor"));
  return [hero, element("section", "cards", ...cards)];
}

function productPage(name) {
  const product = PRODUCTS[name];
  const facts = element("ul", "facts", ...product.facts.map(([value, what]) => element("li", "", element("b", "", value), what)));
  const buttons = element("p", "buttons", action("Calculate mine", "calculate"), action("Talk to an advisor", "call-advisor", "button quiet"));
  return [element("section", `hero product ${name}`, element("h1", "", product.title), element("p", "", product.lead), buttons),
    element("section", "text", facts, element("p", "", product.text))];
}

function inbox() {
  const letter = element("article", "letter", element("h2", "", "Spring newsletter"), element("p", "", "From Northlight Invest: what the new rates mean for you."),
    action("Open it", "open-letter"));
  return [element("section", "text", element("h1", "", "Your inbox"), letter)];
}

function openLetter(letter) {
  const link = element("a", "button", "See the Global fund");
  link.href = "/shop/funds?utm_campaign=spring-newsletter";
  link.id = "letter-link";
  link.dataset.action = "letter-link";
  letter.replaceChildren(element("h2", "", "Spring newsletter"), element("p", "", "Rates have moved, and so have markets. The Global fund now costs 0.2 % a year."), link);
}

// What an element does beside its click, which the script sends by itself: a type of event, and words for the visitor.
const ACTIONS = {
  "call-advisor": ["advisor_call", { topic: location.pathname.split("/").pop() }, "An advisor talks to you: that is one advisor_call."],
  "calculate": ["calculator_used", {}, "Calculated: that is one calculator_used."],
  "open-letter": ["email_open", {}, "Opened: that is one email_open."],
  "letter-link": ["email_click", {}, "Followed: that is one email_click."],
};

function say(text) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => toast.classList.remove("shown"), 2500);
}

function show() {
  const name = location.pathname.split("/")[2];
  main.replaceChildren(...(PRODUCTS[name] ? productPage(name) : name === "inbox" ? inbox() : home()));
  for (const link of document.querySelectorAll("nav a")) link.toggleAttribute("aria-current", link.pathname === location.pathname);
  document.title = PRODUCTS[name] ? `${PRODUCTS[name].title} · Northlight Invest` : "Northlight Invest";
  scrollTo(0, 0);
}

function showVisitor() {
  let id = null;
  try {
    id = localStorage.getItem("ingestd.client");
  } catch { /* blocked: the script has an id for this page only */ }
  document.getElementById("you").textContent = id ? id.slice(0, 8) : "anonymous";
  if (id) document.getElementById("see-yourself").href = `/?client=${encodeURIComponent(id)}`;
}

document.addEventListener("click", (event) => {
  const doing = event.target.closest("[data-action]")?.dataset.action;
  if (doing) {
    const [type, properties, words] = ACTIONS[doing];
    window.ingestd?.track(type, properties);
    say(words);
    if (doing === "open-letter") openLetter(event.target.closest("article"));
  }
  const link = event.target.closest("a[href^='/shop']");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault(); // the next page without a reload: the script sees the new address
  history.pushState(null, "", link.href);
  show();
});
addEventListener("popstate", show);
show();
addEventListener("load", showVisitor);
