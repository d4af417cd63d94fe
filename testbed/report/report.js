"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const tip = byId("tip");
  let device = "";

  // --- pieces -------------------------------------------------------------------------------------------

  function svg(tag, attributes = {}, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function html(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }

  function size(count) {
    for (const unit of ["B", "kB", "MB"]) {
      if (count < 999.5) return `${Number(count.toPrecision(3))} ${unit}`;
      count /= 1000;
    }
    return `${Number(count.toPrecision(3))} GB`;
  }

  function every(seconds) {
    for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
      const value = seconds / length;
      if (value > 0.995 && Math.abs(value - Math.round(value)) < 0.005 * value) return `${Math.round(value)} ${unit}`;
      if (value >= 2) return `${value.toFixed(1)} ${unit}`;
    }
    return `${Number(seconds.toPrecision(3))} s`;
  }

  function clock(seconds, withDay) {
    const text = new Date(seconds * 1000).toISOString();
    return withDay ? `${text.slice(5, 10)} ${text.slice(11, 16)}` : text.slice(11, 16);
  }

  function say(text, event) {
    tip.textContent = text;
    tip.hidden = false;
    const box = event.clientX === undefined ? event.target.getBoundingClientRect() : null;
    const x = box ? box.left + box.width / 2 : event.clientX;
    const y = box ? box.top : event.clientY;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${y + 16 + height > innerHeight ? Math.max(4, y - height - 10) : y + 16}px`;
  }

  function hush() { tip.hidden = true; }

  function hover(node, text) {
    node.addEventListener("pointermove", (event) => say(text, event));
    node.addEventListener("pointerleave", hush);
    return node;
  }

  function focusable(node, text) {
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", text.replaceAll("\n", ", "));
    node.addEventListener("focus", (event) => say(text, event));
    node.addEventListener("blur", hush);
    return hover(node, text);
  }

  function legend(entries) {
    const box = html("div", { className: "legend" });
    for (const [name, colour] of entries) {
      const swatch = html("i");
      swatch.style.background = colour;
      box.append(html("span", {}, swatch, name));
    }
    return box;
  }

  function shown(names) { return device ? names.filter((name) => name === device) : names; }

  function total(parts) { return Object.values(parts).reduce((sum, value) => sum + value, 0); }

  // A round number of units at or above the greatest value, for an axis that ends on a tick.
  function ceiling(value) {
    if (value <= 0) return 1;
    const step = 10 ** Math.floor(Math.log10(value));
    return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((m) => m * step).find((top) => top >= value * 0.999);
  }

  // --- stacked bars: one row per device, or per protocol ------------------------------------------------------

  function bars(box, rows, order, colours, { share = false, label = "", width = 560 } = {}) {
    const left = 128, right = 64, line = 24, height = rows.length * line + 26;
    const greatest = share ? 100 : ceiling(Math.max(1, ...rows.map((row) => total(row.parts))));
    const plot = width - left - right;
    const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    for (const part of [0, 0.5, 1]) {
      const x = left + part * plot;
      chart.append(svg("path", { class: "axis", d: `M${x},0V${height - 20}` }));
      const text = share ? `${part * 100} %` : size(part * greatest);
      chart.append(svg("text", { class: "tick", x, y: height - 6, "text-anchor": "middle" }, text));
    }
    const used = new Set();
    rows.forEach((row, index) => {
      const sum = total(row.parts), y = index * line + 3;
      chart.append(svg("text", { x: left - 8, y: y + 13, "text-anchor": "end" }, row.label));
      let x = left;
      for (const name of order) {
        const value = row.parts[name] || 0;
        if (!value) continue;
        used.add(name);
        const wide = (plot * (share ? (100 * value) / sum : value)) / greatest;
        const bar = svg("rect", { class: "bar", x, y, width: Math.max(wide, 0.4), height: line - 7, fill: colours[name] });
        const percent = ((100 * value) / sum).toFixed(1);
        chart.append(hover(bar, `${row.label} · ${name}\n${size(value)}${rows.single ? "" : `, ${percent} % of its bytes`}`));
        x += wide;
      }
      chart.append(svg("text", { class: "soft", x: x + 6, y: y + 13 }, size(sum)));
    });
    const entries = order.filter((name) => used.has(name)).map((name) => [name, colours[name]]);
    box.replaceChildren(chart, ...(entries.length > 1 && !rows.single ? [legend(entries)] : []));
  }

  let scale = "bytes";

  function drawProtocols() {
    const whole = data.whole.map((row) => ({ label: row.protocol, parts: { [row.protocol]: row.bytes } }));
    whole.sort((a, b) => total(b.parts) - total(a.parts));
    whole.single = true;
    bars(byId("whole"), whole, data.order.whole, data.whole_colours, { label: "Bytes by protocol" });
    const rows = (layer) => shown(data.devices).map((name) => ({ label: name, parts: data.breakdown[layer][name] }));
    bars(byId("by-transport"), rows("transport"), data.order.transport, data.colours, { label: "Bytes by device and transport" });
    bars(byId("by-application"), rows("application").filter((row) => total(row.parts)), data.order.application, data.colours,
      { share: scale === "share", label: "Bytes by device and application protocol", width: 1140 });
  }

  // --- bandwidth ----------------------------------------------------------------------------------------------

  function drawBandwidth() {
    const { begin_s: begin, step_s: step, devices } = data.bandwidth;
    const box = byId("lines");
    box.replaceChildren();
    const wide = device ? 1140 : 540, high = device ? 260 : 170, left = 54, bottom = 20, top = 8;
    for (const name of shown(data.devices)) {
      const { sent, received } = devices[name] || { sent: [], received: [] };
      const count = sent.length;
      if (!count) continue;
      const end = begin + count * step, days = end - begin > 172800;
      const greatest = ceiling(Math.max(1, ...sent, ...received));
      const zero = top + (high - top - bottom) / 2, unit = (zero - top) / greatest;
      const x = (seconds) => left + ((wide - left - 6) * (seconds - begin)) / (end - begin);
      const chart = svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img",
        "aria-label": `${name}: bytes in each window, at most ${size(Math.max(...sent))} sent and ${size(Math.max(...received))} received` });
      for (const state of data.states) {
        if (state.device && state.device !== name) continue;
        const from = Math.max(begin, state.begin_s), until = Math.min(end, state.end_s);
        if (until <= from || data.states.length < 2) continue;
        const kind = state.offline ? "off" : state.number % 2 ? "band" : "";
        if (kind) chart.append(svg("rect", { class: kind, x: x(from), y: top, width: x(until) - x(from), height: high - top - bottom }));
      }
      for (const [value, text] of [[greatest, size(greatest)], [0, "0"], [-greatest, size(greatest)]]) {
        chart.append(svg("path", { class: "axis", d: `M${left},${zero - value * unit}H${wide - 6}` }));
        chart.append(svg("text", { class: "tick", x: left - 6, y: zero - value * unit + 4, "text-anchor": "end" }, text));
      }
      const length = (end - begin) / (device ? 8 : 4);
      const every_s = [900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000].find((each) => each >= length) || length;
      for (let at = Math.ceil(begin / every_s) * every_s; at <= end; at += every_s) {
        const anchor = x(at) < left + 20 ? "start" : x(at) > wide - 30 ? "end" : "middle";
        chart.append(svg("text", { class: "tick", x: x(at), y: high - 5, "text-anchor": anchor }, days ? clock(at, true).slice(0, 5) : clock(at, false)));
      }
      const area = (values, sign) => `M${x(begin)},${zero}` + values.map((value, i) =>
        `V${(zero - sign * value * unit).toFixed(1)}H${x(begin + (i + 1) * step).toFixed(1)}`).join("") + `V${zero}Z`;
      chart.append(svg("path", { d: area(sent, 1), fill: data.sent }), svg("path", { d: area(received, -1), fill: data.received }));
      const cursor = svg("path", { class: "cursor", d: "" });
      const sheet = svg("rect", { x: left, y: top, width: wide - left - 6, height: high - top - bottom, fill: "transparent" });
      sheet.addEventListener("pointermove", (event) => {
        const frame = sheet.getBoundingClientRect();
        const i = Math.min(count - 1, Math.max(0, Math.floor((count * (event.clientX - frame.left)) / frame.width)));
        const at = begin + i * step;
        cursor.setAttribute("d", `M${x(at + step / 2)},${top}V${high - bottom}`);
        const state = data.states.length > 1 && data.states.find((s) => (!s.device || s.device === name) && s.begin_s <= at + step / 2 && at + step / 2 < s.end_s);
        say(`${name} · ${clock(at, true)} UTC\nsent ${size(sent[i])}, received ${size(received[i])}${state ? `\nstate ${state.name}` : ""}`, event);
      });
      sheet.addEventListener("pointerleave", () => { cursor.setAttribute("d", ""); hush(); });
      chart.append(cursor, sheet);
      box.append(html("figure", {}, html("figcaption", { textContent: name }), chart));
    }
  }

  // --- schedules ------------------------------------------------------------------------------------------------

  function drawPeriods() {
    const rows = data.periods.filter((row) => !device || row.device === device);
    const names = shown(data.devices).filter((name) => rows.some((row) => row.device === name));
    const wide = 1140, left = 140, right = 20, lane = 13;
    const top = Math.log10(Math.max(7200, ...rows.map((row) => row.period_s * 1.3)));
    const x = (seconds) => left + ((wide - left - right) * Math.log10(Math.max(1, seconds))) / top;
    // Periods that lie close together are put below each other.
    const lanes = names.map((name) => {
      const ends = [];
      const dots = rows.filter((row) => row.device === name).sort((a, b) => a.period_s - b.period_s).map((row) => {
        let free = ends.findIndex((end) => end < x(row.period_s));
        if (free < 0) free = ends.push(0) - 1;
        ends[free] = x(row.period_s) + 12;
        return { row, free };
      });
      return { name, dots, count: ends.length };
    });
    const high = lanes.reduce((sum, { count }) => sum + count * lane + 12, 30);
    const chart = svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": "Periods of the schedules of each device" });
    for (const [seconds, text] of [[1, "1 s"], [10, "10 s"], [60, "1 min"], [600, "10 min"], [3600, "1 h"], [21600, "6 h"], [86400, "1 d"], [604800, "1 week"]]) {
      if (Math.log10(seconds) > top) continue;
      chart.append(svg("path", { class: "axis", d: `M${x(seconds)},0V${high - 22}` }));
      chart.append(svg("text", { class: "tick", x: x(seconds), y: high - 7, "text-anchor": "middle" }, text));
    }
    let y = 4;
    for (const { name, dots, count } of lanes) {
      const tall = count * lane + 12;
      chart.append(svg("path", { class: "axis", d: `M${left},${y + tall - 4}H${wide - right}` }));
      chart.append(svg("text", { x: left - 10, y: y + tall / 2, "text-anchor": "end" }, name));
      for (const { row, free } of dots) {
        const colour = data.whole_colours[row.protocol];
        const brief = row.coverage_pct < 50;
        const dot = svg("circle", { class: "dot", cx: x(row.period_s), cy: y + 8 + free * lane, r: 5, fill: brief ? "var(--paper)" : colour, stroke: brief ? colour : "var(--paper)", "stroke-width": brief ? 2.5 : 1 });
        chart.append(focusable(dot, `${name} · ${row.protocol} every ${every(row.period_s)}\n${row.period_s} s ± ${row.error_s} s, ${row.cycles.toLocaleString("en")} cycles${row.flow ? `\n${row.flow}` : ""}`));
      }
      y += tall;
    }
    const used = data.order.whole.filter((name) => rows.some((row) => row.protocol === name));
    byId("periods").replaceChildren(...(rows.length ? [chart, legend(used.map((name) => [name, data.whole_colours[name]]))] : ["No schedule was found."]));
    byId("period-table").replaceChildren(table(
      ["Device", "Protocol", "Flow", "#Every", "#Seconds", "#± s", "#Cycles", "#Of the capture"],
      rows.map((row) => [row.device, row.protocol, row.flow, every(row.period_s), row.period_s, row.error_s, row.cycles, `${row.coverage_pct} %`])));
  }

  function drawSpectra() {
    const box = byId("spectra");
    if (!box) return;
    box.replaceChildren();
    const wide = device ? 1140 : 540, high = device ? 260 : 190, left = 40, bottom = 22, top = 8, last = 60;
    for (const name of shown(Object.keys(data.spectra))) {
      const spectra = data.spectra[name];
      const x = (line) => left + ((wide - left - 8) * line) / last, y = (value) => top + (high - top - bottom) * (1 - value);
      const chart = svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${name}: spectra of ${Object.keys(spectra).join(", ")}` });
      for (let line = 0; line <= last; line += device ? 7 : 14) {
        chart.append(svg("path", { class: "axis", d: `M${x(line)},${top}V${high - bottom}` }));
        chart.append(svg("text", { class: "tick", x: x(line), y: high - 6, "text-anchor": "middle" }, String(line)));
      }
      for (const value of [0, 0.5, 1]) {
        chart.append(svg("path", { class: "axis", d: `M${left},${y(value)}H${wide - 8}` }));
        chart.append(svg("text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
      }
      const names = data.order.application.filter((protocol) => spectra[protocol]);
      for (const protocol of names) {
        const points = spectra[protocol].map(([line, value]) => `${x(line).toFixed(1)},${y(Math.min(1, value)).toFixed(1)}`);
        chart.append(svg("polyline", { points: points.join(" "), fill: "none", stroke: data.colours[protocol], "stroke-width": 1.4 }));
      }
      for (const protocol of names) {
        for (const [line, value, significant] of spectra[protocol]) {
          if (!significant) continue;
          const dot = svg("circle", { class: "dot", cx: x(line), cy: y(Math.min(1, value)), r: 3.4, fill: data.colours[protocol] });
          chart.append(hover(dot, `${name} · ${protocol}\n${line} cycles a week (every ${every(604800 / line)}), magnitude ${value}`));
        }
      }
      box.append(html("figure", {}, html("figcaption", { textContent: name }), chart, legend(names.map((protocol) => [protocol, data.colours[protocol]]))));
    }
  }

  // --- services ---------------------------------------------------------------------------------------------------

  function drawMap() {
    const group = byId("points");
    if (!group) return;
    group.replaceChildren();
    const amount = (point) => (device ? point.by_device[device] || 0 : point.bytes);
    const points = data.places.filter((point) => amount(point) > 0);
    const greatest = Math.max(1, ...points.map(amount));
    for (const point of points.sort((a, b) => amount(b) - amount(a))) {
      const r = 3 + 19 * Math.sqrt(amount(point) / greatest);
      const who = Object.keys(point.by_device).filter((name) => !device || name === device);
      const where = point.registered && !point.registered.includes(point.place) ? `${point.place} (registered in ${point.registered})` : point.place;
      const text = `${where} · ${size(amount(point))}\n${who.join(", ")}\n${point.names.join("\n")}${point.more ? `\nand ${point.more} more` : ""}`;
      group.append(focusable(svg("circle", { class: "point", cx: point.x, cy: point.y, r: r.toFixed(1) }), text));
    }
  }

  function table(heads, rows) {
    const numeric = heads.map((head) => head.startsWith("#"));
    const head = html("tr");
    heads.forEach((text, i) => head.append(html("th", { scope: "col", className: numeric[i] ? "num" : "", textContent: numeric[i] ? text.slice(1) : text })));
    const body = html("tbody");
    for (const row of rows) {
      const line = html("tr");
      row.forEach((cell, i) => line.append(html("td", { className: numeric[i] ? "num" : "", textContent: typeof cell === "number" ? cell.toLocaleString("en", { maximumFractionDigits: 6 }) : cell })));
      body.append(line);
    }
    return html("table", {}, html("thead", {}, head), body);
  }

  function drawServices() {
    const wanted = byId("search").value.trim().toLowerCase();
    const rows = data.services.filter((row) => (!device || row.device === device) && (!wanted || `${row.name} ${row.protocol} ${row.countries.join(" ")}`.toLowerCase().includes(wanted)));
    byId("hits").textContent = `${rows.length} of ${data.services.length}`;
    byId("service-table").replaceChildren(table(
      ["Device", "Protocol", "Name", "Where", "#Addresses", "#Packets", "#Bytes", "#Active windows"],
      rows.map((row) => [row.device, row.protocol, row.name, row.countries.join(", "), row.addresses, row.packets, size(row.bytes), `${row.active_pct} %`])));
  }

  // --- states -----------------------------------------------------------------------------------------------------

  let layer = "application";

  function drawStates() {
    const box = byId("state-charts");
    if (!box) return;
    box.replaceChildren();
    const whole = data.states.filter((state) => !state.device).map((state) => ({ ...state, rows: shown(data.devices).map((name) => ({ label: name, parts: state.bytes[layer][name] || {} })) }));
    const own = data.states.filter((state) => state.device && (!device || state.device === device) && data.devices.includes(state.device));
    if (own.length) {
      whole.push({ name: "each device by itself, restarted", number: own[0].number, begin_s: own[0].begin_s, end_s: own[0].end_s,
        rows: own.map((state) => ({ label: state.device, parts: state.bytes[layer][state.device] || {} })) });
    }
    for (const state of whole) {
      const caption = `${state.number ? `#${state.number} ` : ""}${state.name}`;
      const about = `${every(state.end_s - state.begin_s)}${state.offline ? ", no Internet" : ""}`;
      const chart = html("div");
      if (state.rows.some((row) => total(row.parts))) bars(chart, state.rows, data.order[layer], data.colours, { label: `${caption}: bytes by device` });
      else chart.append(html("p", { className: "note", textContent: "Nothing was captured." }));
      box.append(html("figure", {}, html("figcaption", {}, caption, " ", html("small", { textContent: about })), chart));
    }
  }

  function drawRecovery() {
    const box = byId("recovery");
    if (!box) return;
    const after = (seconds) => (seconds === null ? "not in this state" : every(seconds));
    const mine = (row) => !device || row.device === device;
    box.replaceChildren(table(["State", "Device", "#First answer", "#First connection", "To"],
      data.recovery.filter(mine).map((row) => [row.state, row.device, after(row.first_s), after(row.service_s), row.service])));
    byId("retries").replaceChildren(table(["State", "Device", "What", "#Attempts", "Pattern"],
      data.retries.filter(mine).map((row) => [row.state, row.device, `${row.protocol} ${row.name}`, row.attempts,
        row.pattern === "constant" ? `constant, every ${every(row.wait_s)}`
          : row.pattern === "exponential" ? `exponential from ${every(row.wait_s)}, × ${row.factor}`
          : row.pattern === "irregular" ? `irregular, about ${every(row.wait_s)}` : row.pattern])));
  }

  // --- controls -----------------------------------------------------------------------------------------------------

  function draw() {
    drawProtocols(); drawBandwidth(); drawPeriods(); drawSpectra(); drawMap(); drawServices(); drawStates(); drawRecovery();
    for (const row of document.querySelectorAll("tr[data-device]")) row.hidden = Boolean(device) && row.dataset.device !== device;
  }

  function choice(name, chosen) {
    const buttons = document.querySelectorAll(`button[data-${name}]`);
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        chosen(button.dataset[name]);
      });
    }
  }

  byId("device").addEventListener("change", (event) => { device = event.target.value; hush(); draw(); });
  byId("search").addEventListener("input", drawServices);
  choice("scale", (value) => { scale = value; drawProtocols(); });
  choice("layer", (value) => { layer = value; drawStates(); });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });
  draw();
})();
