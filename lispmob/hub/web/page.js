"use strict";
// Every text of the hub is set as text, never as markup: some of it was said by nodes.

const EVERY_MS = 2000;
const LATE_S = 180;

function made(tag, text, name) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

function duration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [size, unit] of units) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.round(seconds)} s`;
}

function moment(seconds) {
  return seconds === null ? "before the hub started" : new Date(seconds * 1000).toLocaleString();
}

function grouped(nodes) {
  const groups = new Map();
  for (const node of nodes) {
    const places = node.rlocs.map((rloc) => rloc.address).join(", ");
    const key = JSON.stringify([node.site, node.xtr_id, places, node.way]);
    if (!groups.has(key)) groups.set(key, { ...node, places, eids: [] });
    const group = groups.get(key);
    group.eids.push(node.eid);
    group.heard_s = Math.min(group.heard_s, node.heard_s);
    group.moves = Math.max(group.moves, node.moves);
  }
  return [...groups.values()].sort((a, b) => String(a.site).localeCompare(String(b.site)));
}

function card(node) {
  const article = made("article", "", node.heard_s > LATE_S ? "late" : "");
  const way = node.way === "rtr" ? `behind a NAT, through the RTR ${node.rtrs.join(", ")}` : "open";
  article.append(made("h3", node.site || "?"), made("p", node.eids.join(", ")));
  article.append(made("p", `${way}${node.places ? ": " + node.places : ""}`, "way"));
  const moves = node.moves ? `, moved ${node.moves === 1 ? "once" : node.moves + " times"}` : "";
  article.append(made("p", `heard ${duration(node.heard_s)} ago, since ${moment(node.since)}${moves}`, "small"));
  return article;
}

function show(hub) {
  const head = document.getElementById("head");
  const { status } = hub;
  head.className = status.problems.length ? "bad" : "";
  head.textContent = `${status.sites_registered} of ${status.sites} sites registered, up ${duration(status.uptime_s)}`;
  const problems = document.getElementById("problems");
  problems.hidden = !status.problems.length;
  const said = (one) => made("li", `${one.subject ? one.subject + ": " : ""}${one.text}${one.remedy ? "; do: " + one.remedy : ""}`);
  problems.querySelector("ul").replaceChildren(...status.problems.map(said));
  const cards = grouped(hub.nodes).map(card);
  document.getElementById("nodes").replaceChildren(...(cards.length ? cards : [made("p", "no node is registered")]));
  const moves = status.last_moves.map((move) => made("li", `${moment(move.at)} ${move.site}: ${move.eid} to ${move.rlocs.join(", ") || "nowhere"}`));
  document.getElementById("moves").replaceChildren(...moves);
}

async function ask() {
  const head = document.getElementById("head");
  try {
    const answer = await fetch("/hub.json", { credentials: "same-origin", cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    const hub = await answer.json();
    if (hub.error) throw new Error(hub.error);
    show(hub);
  } catch (error) {
    head.className = "bad";
    head.textContent = String(error.message || error);
  }
  setTimeout(ask, EVERY_MS);
}

ask();
