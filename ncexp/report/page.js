"use strict";
// The page of a report. Names, messages and values of runs are data: they become text by textContent, and go to Plotly,
// which knows some markup, through `plain`. `data` is what page_data.py makes; a run is spoken of by its place in it.
const $ = id => document.getElementById(id);
/** An element with these properties and children; children that are strings become text. */
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Tables sort by a click on a head. Cells are compared as numbers where both are, else as words; empty ones come last.
const worth = cell => Number.isNaN(cell.worth) ? "" : cell.worth ?? cell.textContent.replace(/^\[|^–.*/, "");
const sortBy = head => {
  const body = head.closest("table").tBodies[0], order = head.ariaSort === "ascending" ? -1 : 1;
  for (const other of head.parentNode.cells) other.ariaSort = null;
  head.ariaSort = order === 1 ? "ascending" : "descending";
  const rows = [...body.rows].map(row => [worth(row.cells[head.cellIndex]), row]);
  rows.sort(([x], [y]) => {
    if (x === "" || y === "") return (x === "") - (y === "");
    const less = parseFloat(x) - parseFloat(y);
    return order * (isNaN(less) ? x.localeCompare(y) : less);
  });
  body.append(...rows.map(([, row]) => row));
};
const makeSortable = table => {
  for (const head of table.tHead?.rows[0].cells ?? [])
    head.append(make("button", {type: "button", onclick: () => sortBy(head)}, ...head.childNodes));
};
document.querySelectorAll("table").forEach(makeSortable);

const ask = data => {
const MANY = 60, MOST_PANELS = 16, MOST_VALUES = 12, BAD = ["diverged", "failed", "damaged"];
const runs = data.runs, every = [...runs.keys()], dark = matchMedia("(prefers-color-scheme: dark)");

const plain = text => String(text).replace(/[&<>]/g, sign => ({"&": "&amp;", "<": "&lt;", ">": "&gt;"})[sign]);
const short = (text, most) => plain(text.length > most ? `${text.slice(0, most - 2)} …` : text);
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const numberOf = value => value === null || value === undefined ? NaN : Number(value);
/** Four digits; a share in percent, an undefined value as a dash. */
const word = (value, share) => {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "–" : value > 0 ? "∞" : "−∞";
  const number = Number((share ? 100 * value : value).toPrecision(4)), size = Math.abs(number);
  return (size && (size < 1e-3 || size >= 1e6) ? number.toExponential() : String(number)) + (share ? " %" : "");
};
const cached = (make, found = new Map()) =>
  name => (found.has(name) || found.set(name, make(name)), found.get(name));
const inOrder = (items, of) => [...Map.groupBy(items, of)].sort(([one], [other]) => one - other);
const momentsOf = values => {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {mean, deviation: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0};
};
const extentOf = values => [Math.min(...values), Math.max(...values)];

// Columns: all that has a value for every run. A share is a fraction; people read percent.
const finalOf = cached(name => data.final[name].map(numberOf));
const quantities = new Map(data.quantities.map(one =>
  [one.name, {...one, of: place => finalOf(one.name)[place]}]));
const keys = new Map(data.keys.map(one => {
  const text = place => runs[place].values[one.name];
  return [one.name, {...one, title: one.name, last: one.name.split(".").at(-1), isKey: true, text,
    order: place => one.values.indexOf(text(place)),
    of: place => one.numeric ? numberOf(text(place)) : text(place) && plain(text(place))}];
}));
const columns = new Map([...keys, ...quantities]);
/** Panels may stand for combinations of several keys, as in the report's figures. */
const facets = new Map([[data.facets.join(", "), {several: true, values: data.panels,
  order: place => data.panels.indexOf(runs[place].panel)}], ...keys]);
/** The numbers of a quantity at the evaluated epochs of every run; null where a run has none. */
const historyOf = cached(name => (data.history[name] ?? []).map(text => text &&
  [...new Float32Array(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer)]));
const has = place => one => one.isKey ? one.order(place) >= 0 : Number.isFinite(one.of(place));
const completed = place => runs[place].state === "completed";
const statesOf = places => [...new Set(places.map(place => runs[place].state))].join(", ");
/** What is said of a run where it is pointed at: its name, its keys and, where it is not completed, its state. */
const about = cached(place => [`<b>${plain(runs[place].name)}</b>`,
  ...Object.entries(runs[place].values).slice(0, MOST_VALUES).map(([key, value]) => `${plain(key)} = ${plain(value)}`),
  ...(completed(place) ? [] : [`state = ${runs[place].state}`])].join("<br>"));

// Colours, from style.py. On a dark page what is dark is lightened, on a light one the reverse; the hue stays.
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const ink = colour => {
  const parts = [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16) / 255);
  const [low, high] = extentOf(parts), light = (high + low) / 2;
  const aim = dark.matches ? Math.max(light, 0.62) : Math.min(light, 0.52);
  const stretch = high === low ? 0 : (1 - Math.abs(2 * aim - 1)) / (1 - Math.abs(2 * light - 1));
  return `#${parts.map(c => Math.round(255 * (aim + stretch * (c - light))).toString(16).padStart(2, "0")).join("")}`;
};
const scaleOf = paint => data.scale.map((colour, place) => [place / (data.scale.length - 1), paint(colour)]);
const CONFIG = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]};
const layoutOf = more => ({paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
  font: {color: css("--ink"), size: 12}, hoverlabel: {bgcolor: css("--raised"), bordercolor: css("--faint"),
    font: {color: css("--ink")}, align: "left"}, ...more});
/** Of a key the values are the ticks, in their order. */
const axisOf = (one, log, words = one?.isKey && !one.numeric) => ({
  type: words ? "category" : log ? "log" : "linear", gridcolor: css("--line"), linecolor: css("--faint"),
  zeroline: false, automargin: true, exponentformat: "power", tickformat: one?.share ? "~%" : "",
  ...(words ? {categoryorder: "array", categoryarray: one.values.map(plain)} : {}),
  ...(one?.isKey && !words && one.values.length <= MOST_VALUES ? {tickvals: one.values, ticktext: one.values} : {})});
/** Of logarithms: powers of ten or, where they span less than one, four numbers between the ends. */
const logTicks = (logs, share) => {
  const [low, high] = extentOf(logs), first = Math.ceil(low), powers = Math.floor(high) - first + 1;
  const tickvals = powers > 1 ? [...Array(powers).keys()].map(step => first + step) :
    [0, 1, 2, 3].map(step => low + step / 3 * (high - low));
  return {tickvals, ticktext: tickvals.map(one => word(Number((10 ** one).toPrecision(2)), share))};
};
const barOf = (one, ticks) => ({title: {text: short(one.title, 44), side: "right"}, thickness: 14,
  tickformat: one.share ? "~%" : "", ...ticks});

// Mean and band over seeds, as in curves.py: at the positions that all have, one standard deviation to both sides; on a
// logarithmic axis of the logarithms. Where a seed's value is undefined the mean is: over others it would jump.
const bandOf = (seeds, log) => {
  if (seeds.length === 1) return seeds[0];
  const [to, back] = log ? [value => value > 0 ? Math.log(value) : NaN, Math.exp] : [value => value, value => value];
  const found = seeds.map(one => new Map(one.x.map((position, place) => [position, to(one.mean[place])])));
  const x = seeds[0].x.filter(position => found.every(one => one.has(position)));
  const over = x.map(position => momentsOf(found.map(one => one.get(position))));
  return {x, places: seeds.flatMap(one => one.places), mean: over.map(one => back(one.mean)),
    low: over.map(one => back(one.mean - one.deviation)), high: over.map(one => back(one.mean + one.deviation))};
};
const countOf = band => band.mean.filter(Number.isFinite).length;
/** One band, or one of each run: while some are not done, and where the mean would show less than half of a run. */
const bandsOf = (members, name, log) => {
  const apart = members.filter(place => historyOf(name)[place]).map(place =>
    ({x: data.epochs[place], places: [place], mean: historyOf(name)[place]}));
  const together = apart.length ? [bandOf(apart, log)] : [];
  const alike = apart.every(one => completed(one.places[0]) && 2 * countOf(together[0]) >= countOf(one));
  return (alike ? together : apart).filter(countOf);
};
/** The band as closed outlines, one between two gaps. */
const outlineOf = ({x, mean, low, high}) => {
  const pieces = [[]];
  mean.forEach((value, place) => Number.isFinite(value) ? pieces.at(-1).push(place) : pieces.push([]));
  const around = (there, back) => pieces.flatMap(one =>
    [...one.map(place => there[place]), ...one.toReversed().map(place => back[place]), null]);
  return {x: around(x, x), y: around(high, low)};
};

// What is asked: the controls.
const controls = $("controls").elements;
const fitSplits = () => {
  const there = data.quantities.filter(one => one.base === controls.quantity.value).map(one => one.split);
  for (const one of controls.split.options) one.disabled = one.hidden = !there.includes(one.value);
  if (!there.includes(controls.split.value)) [controls.split.value] = there;
};
/** Axes as the catalogue and the spacing of a key have them. */
const fitLogs = () => {
  const {x, y} = asked();
  [controls.logx.checked, controls.logy.checked] = [x?.log ?? false, y.log];
};
const asked = () => {
  const said = Object.fromEntries(new FormData($("controls")));
  const x = columns.get(said.against), kind = !x ? "epoch" : !x.isKey ? "scatter" : said.second ? "heat" : "axis";
  const want = {kind, x, second: kind === "heat" ? keys.get(said.second) : null, color: keys.get(said.color),
    y: [...quantities.values()].find(one => one.base === said.quantity && one.split === said.split),
    facet: said.facet && facets.get(said.facet), logx: "logx" in said, logy: "logy" in said};
  // Keys beyond the axes of the settings. A key by which runs were chosen, where it is asked for, brings back all runs.
  const extra = [...new Set([x, want.second, want.color, want.facet])].filter(one =>
    one?.isKey && !data.axes.includes(one.name));
  want.free = data.free.filter(one => !extra.includes(keys.get(one)));
  const all = kind === "scatter" || want.free.length < data.free.length;
  want.pool = every.filter(place => all || runs[place].kept || runs[place].last === null);
  want.pool.sort((one, other) => runs[one].setting - runs[other].setting);
  want.repeats = place => JSON.stringify([runs[place].setting, ...extra.map(one => one.text(place))]);
  const lines = [...data.axes.map(one => keys.get(one)), ...extra].filter(one => kind !== "axis" || one !== x);
  want.label = cached(place => lines.map(one => `${one.last}=${one.text(place) ?? "–"}`).join(", ") || "all runs");
  want.many = new Set(want.pool.map(want.repeats)).size > MANY;
  if (want.many) want.color ??= keys.get(data.axes[0]);
  const labels = [...new Set(want.pool.map(want.label))];
  want.paint = cached(place => want.color ? {name: `${want.color.name} = ${want.color.text(place) ?? "–"}`,
    colour: ink(want.color.colors[want.color.order(place)] ?? "#808080")} : {name: want.label(place),
    colour: ink(data.palette[labels.indexOf(want.label(place)) % data.palette.length])});
  return want;
};

// The views: each returns traces for one panel; `meta` or `customdata` are the runs that a click means.
const traceOf = (want, place, more, showlegend = true) => ({type: "scatter", hoverinfo: "text", showlegend,
  legendgroup: want.paint(place).name, name: short(want.paint(place).name, 44), ...more});
const saidOf = (want, value) => `${plain(want.y.title)} ${word(value, want.y.share)}`;
const headOf = (want, place) => `<b>${plain(want.label(place))}</b><br>`;
const curves = (want, members) => {
  const groups = [...Map.groupBy(members, want.repeats).values()], {many} = want;
  const drawn = groups.flatMap(group => bandsOf(group, want.y.name, want.logy).flatMap(band => {
    const [first] = band.places, {colour} = want.paint(first), seeds = band.places.length;
    const head = seeds === 1 ? about(first) : `${headOf(want, first)}mean of ${seeds} seeds`;
    const line = traceOf(want, first, {x: band.x, y: band.mean, meta: band.places,
      mode: countOf(band) === 1 ? "markers" : "lines", marker: {color: colour, size: 8},
      line: {color: colour, width: many ? 0.7 : 1.8},
      text: band.mean.map((value, place) => `${head}<br>epoch ${band.x[place]}: ${saidOf(want, value)}`)});
    return seeds === 1 || many ? [line] : [traceOf(want, first, {...outlineOf(band), mode: "lines", line: {width: 0},
      fill: "toself", fillcolor: `${colour}2e`, hoverinfo: "skip"}, false), line];
  }));
  return many ? drawn : [...drawn, ...zeroLines(want, groups, drawn)];
};
/** A dotted line at the mean of the zero-error epochs of the seeds that reached one. */
const zeroLines = (want, groups, drawn) => {
  const heights = drawn.flatMap(one => one.y).filter(value => Number.isFinite(value) && (!want.logy || value > 0));
  const [low, high] = extentOf(heights), middle = want.logy ? Math.sqrt(low * high) : (low + high) / 2;
  return groups.flatMap(group => {
    const reached = group.map(place => runs[place].zero).filter(epoch => epoch !== null), {mean} = momentsOf(reached);
    if (!reached.length || !heights.length) return [];
    const count = group.length > 1 ? ` (${reached.length} of ${group.length} seeds)` : "";
    return [traceOf(want, group[0], {mode: "lines", x: [mean, mean, mean], y: [low, middle, high], meta: group,
      line: {color: want.paint(group[0]).colour, width: 1.2, dash: "dot"},
      text: Array(3).fill(`${headOf(want, group[0])}zero error at epoch ${word(mean)}${count}`)}, false)];
  });
};
const points = (want, members) => {
  const {x, y, paint} = want, there = members.filter(place => [x, y].every(has(place)));
  const saidOfX = place => x.isKey ? "" : `<br>${plain(x.title)} ${word(x.of(place), x.share)}`;
  return [...Map.groupBy(there, place => paint(place).name).values()].map(group => traceOf(want, group[0], {
    mode: "markers", customdata: group, x: group.map(x.of), y: group.map(y.of),
    text: group.map(place => `${about(place)}${saidOfX(place)}<br>${saidOf(want, y.of(place))}`),
    marker: {color: paint(group[0]).colour, size: x.isKey ? 6 : 8, opacity: x.isKey ? 0.4 : 0.85,
      symbol: group.map(place => completed(place) ? "circle" : "x")}}));
};
const finished = (want, members) => members.filter(place => completed(place) && Number.isFinite(want.y.of(place)));
/** Mean and standard error over the seeds that completed, joined where only the key on this axis differs. */
const means = (want, members) => {
  const done = finished(want, members).filter(place => want.x.order(place) >= 0);
  const meanOf = places => {
    const {mean, deviation} = momentsOf(places.map(want.y.of)), error = deviation / Math.sqrt(places.length);
    const text = places.length === 1 ? `${about(places[0])}<br>${saidOf(want, mean)}` : `${headOf(want, places[0])}` +
      `${plain(want.x.name)} = ${plain(want.x.text(places[0]))}<br>${saidOf(want, mean)} ± ` +
      `${word(error, want.y.share)}, standard error of ${places.length} seeds`;
    return {places, mean, error, text};
  };
  const series = [...Map.groupBy(done, want.label).values()].map(group => {
    const found = inOrder(group, want.x.order).map(([, one]) => meanOf(one));
    const {colour} = want.paint(group[0]);
    return traceOf(want, group[0], {mode: "lines+markers", x: found.map(one => want.x.of(one.places[0])),
      y: found.map(one => one.mean), customdata: found.map(one => one.places), text: found.map(one => one.text),
      error_y: {array: found.map(one => one.error), color: colour, thickness: 1.2},
      line: {color: colour, width: 1.6}, marker: {color: colour, size: 7}});
  });
  return [...series, ...points(want, members)];
};
/** A field is the mean over its runs that completed; where there is none, their states stand in it. */
const heat = (want, members) => {
  const [across, down] = [want.x, want.second], xs = across.values.map(plain), ys = down.values.map(plain);
  const there = Map.groupBy(members, place => JSON.stringify([across.order(place), down.order(place)]));
  const fields = down.values.map((y, row) => across.values.map((x, column) => {
    const places = there.get(JSON.stringify([column, row])) ?? [], done = finished(want, places);
    const {mean} = momentsOf(done.map(want.y.of));
    return {done, z: want.logy ? Math.log10(mean) : mean,
      text: done.length ? word(Number(mean.toPrecision(3)), want.y.share) : "",
      states: done.length ? "" : statesOf(places), hover: `${plain(across.name)} = ${plain(x)}<br>` +
        `${plain(down.name)} = ${plain(y)}<br>${saidOf(want, mean)}, mean of ${plural(done.length, "run")}`};
  }));
  const table = name => fields.map(row => row.map(field => field[name]));
  return [{type: "heatmap", x: xs, y: ys, z: table("z"), customdata: table("done"), hovertext: table("hover"),
    text: table("text"), texttemplate: xs.length * ys.length <= 100 ? "%{text}" : "", coloraxis: "coloraxis",
    hoverinfo: "text", hoverongaps: false, xgap: 1, ygap: 1},
  {type: "scatter", mode: "text", hoverinfo: "skip", showlegend: false, textfont: {color: css("--faint")},
    x: ys.flatMap(() => xs), y: ys.flatMap(y => xs.map(() => y)), text: table("states").flat()}];
};
const VIEWS = {epoch: curves, axis: means, heat, scatter: points};
/** Why nothing can be drawn, in a sentence; empty where something can. */
const gapOf = ({kind, x, y, logy}, traces) => {
  const values = (kind === "heat" ? traces.flatMap(one => one.z ?? []) : traces.map(one => one.y)).flat();
  if (values.some(value => Number.isFinite(value) && (kind === "heat" || !logy || value > 0))) return "";
  if (kind === "scatter" && !values.length) return `No run has both ${y.title} and ${x.title}.`;
  if (kind === "epoch" && !data.history[y.name])
    return `${y.title} at every epoch is not in this file. Take another axis, or ask for it: ncexp report y=${y.name}`;
  return logy && values.some(Number.isFinite) ?
    `Nothing of ${y.title} is above 0: a logarithmic axis has nothing to show. Untick “logarithmic quantity”.` :
    `${y.title} is undefined for these runs, or none of them completed.`;
};
const noteOf = ({kind, pool, x, second, facet, logy, free, many}, panels) => {
  const left = pool.filter(place => !completed(place)).length, crosses = kind === "heat" ? "" : ": crosses";
  const others = data.axes.filter(name => ![x, second, facet].includes(keys.get(name)) &&
    !(facet?.several && data.facets.includes(name))).join(", ");
  const band = many ? `; more than ${MANY} settings, so bands and zero error are left out` :
    `; band: one standard deviation${logy ? " of the logarithms" : ""}; dotted: zero error`;
  return [{epoch: `Mean over seeds${band}.`, axis: "Mean ± standard error over seeds; faint: the runs.",
    heat: `Mean over the runs that completed${others && `, whatever their ${others}`}.`,
    scatter: "A point is a run at its last evaluated epoch."}[kind],
  free.length && kind !== "scatter" ? `Of each setting the best ${free.join(", ")} alone is drawn.` : "",
  left && kind !== "epoch" ? `${plural(left, "run")} did not complete${crosses}.` : "",
  panels > MOST_PANELS ? `These are the first ${MOST_PANELS} of ${panels} panels.` : "",
  "A click on a point opens its run; a click in the legend hides a group."].filter(Boolean).join(" ");
};
const draw = () => {
  const want = asked(), figure = $("figure"), {x, y, facet} = want;
  $("meaning").replaceChildren(make("b", {}, y.label), " ", make("i", {}, y.symbol), y.symbol ? ": " : "", y.meaning);
  controls.logx.disabled = want.kind === "heat" || (x?.isKey && !x.numeric);
  controls.second.disabled = !x?.isKey;
  const parts = facet ? inOrder(want.pool, facet.order) : [[0, want.pool]];
  const panels = parts.slice(0, MOST_PANELS).map(([order, members]) => {
    const title = facet ? `${facet.several ? "" : `${facet.name} = `}${facet.values[order] ?? "–"}` : "";
    const traces = VIEWS[want.kind](want, members), nothing = [{x: [null], y: [null], showlegend: false}];
    return traces.length ? [title, traces] : [`${title}: ${statesOf(members)}`, nothing];
  });
  const gap = gapOf(want, panels.flatMap(([, traces]) => traces));
  $("note").textContent = gap ? "" : noteOf(want, parts.length);
  figure.ariaLabel = gap || `${y.title} against ${x?.title ?? "epoch"}; the table of runs has the numbers`;
  if (gap) return Plotly.purge(figure), figure.replaceChildren(make("p", {className: "instead"}, gap));
  if (!figure.data) figure.replaceChildren();
  return Plotly.react(figure, ...figureOf(want, panels), CONFIG).then(() => {
    figure.removeAllListeners("plotly_click");
    figure.on("plotly_click", ({points: [point]}) => open([point.customdata ?? point.data.meta].flat(2)));
  });
};
/** Traces and layout: panels on the same axes, side by side as there is room; the legend beside or below them. */
const figureOf = (want, panels) => {
  const room = $("figure").clientWidth, across = Math.min(panels.length, Math.max(1, Math.floor(room / 380)));
  const down = Math.ceil(panels.length / across), heated = want.kind === "heat", seen = new Set();
  const high = down * (panels.length > 1 ? 270 : Math.min(430, Math.max(310, innerHeight * 0.52)));
  const vertical = heated ? want.second : want.y, layout = {annotations: [], grid: {rows: down, columns: across,
    pattern: "independent", xgap: 0.14, ygap: 0.3}};
  panels.forEach(([title, traces], place) => {
    const name = place ? place + 1 : "", [x, y] = [`x${name}`, `y${name}`];
    layout[`xaxis${name}`] = {...axisOf(want.x, want.logx, heated || undefined), matches: place ? "x" : undefined,
      title: {text: plain(want.x?.title ?? "epoch"), standoff: 6}};
    layout[`yaxis${name}`] = {...axisOf(vertical, want.logy && !heated, heated || undefined),
      matches: place ? "y" : undefined, title: {text: place % across ? "" : plain(vertical.title)}};
    layout.annotations.push({text: plain(title), showarrow: false, xref: `${x} domain`, yref: `${y} domain`, x: 0, y: 1,
      xanchor: "left", yanchor: "bottom"});
    for (const one of traces) {
      Object.assign(one, {xaxis: x, yaxis: y, showlegend: one.showlegend && !seen.has(one.legendgroup)});
      if (one.showlegend) seen.add(one.legendgroup);
    }
  });
  const zs = panels.flatMap(([, traces]) => traces.flatMap(one => one.z ?? []).flat()).filter(Number.isFinite);
  const beside = room > 900, below = beside ? 0 : 24 * Math.min(seen.size, 12);
  const legend = beside ? {x: 1.01, y: 1} : {orientation: "h", x: 0, y: -64 / high, yanchor: "top"};
  return [panels.flatMap(([, traces]) => traces), layoutOf({...layout, height: high + 70 + below, legend,
    showlegend: seen.size > 1, margin: {l: 50, r: 12, t: 24, b: 46 + below},
    coloraxis: {colorscale: scaleOf(one => one), colorbar: barOf(want.y, want.logy && logTicks(zs, want.y.share))}})];
};
const linkTo = place => `#${new URLSearchParams({run: runs[place].key})}`;
/** A click on what one run made opens it; on what several made, shows them in the table. */
const open = places => {
  if (places.length === 1) return location.assign(linkTo(places[0]));
  picked = new Set(places);
  filter();
  return $("all_runs").scrollIntoView();
};

// The table of runs, and the parallel coordinates, which filter it.
let picked = null, brushed = null, heads = "";
const cells = () => [
  ["run", place => make("a", {href: linkTo(place)}, runs[place].name)],
  ["state", place => make("span", {className: BAD.includes(runs[place].state) ? "bad" : ""}, runs[place].state)],
  ...[...keys.values()].map(one => [one.name, place => one.text(place) ?? "–", one.numeric ? one.of : null]),
  ["last epoch", place => word(numberOf(runs[place].last)), place => numberOf(runs[place].last)],
  ...[...quantities.values()].filter(one => one.at_once || (one.base === controls.quantity.value &&
    one.split === controls.split.value)).map(one => [one.title, place => word(one.of(place), one.share), one.of]),
  ["message", place => runs[place].message]];
const fillTable = () => {
  const shown = cells(), all = shown.map(([name]) => name).join("\n");
  if (all === heads) return;
  heads = all;
  const rows = every.map(place => make("tr", {place}, ...shown.map(([, of, value]) =>
    make("td", {className: value ? "number" : "", worth: value?.(place)}, of(place)))));
  const names = shown.map(([name]) => make("th", {scope: "col"}, name));
  $("table_of_runs").replaceChildren(make("thead", {}, make("tr", {}, ...names)), make("tbody", {}, ...rows));
  makeSortable($("table_of_runs"));
};
const filter = () => {
  const words = $("filter").value.toLowerCase().split(/\s+/), rows = [...$("table_of_runs").tBodies[0].rows];
  for (const row of rows) row.hidden = [picked, brushed].some(one => one && !one.has(row.place)) ||
    !words.every(one => row.textContent.toLowerCase().includes(one));
  const count = rows.filter(row => !row.hidden).length;
  $("count").textContent = `${count} of ${plural(runs.length, "run")}`;
  $("everything").hidden = count === runs.length;
};
/** An axis of the parallel coordinates. They know no logarithms: these are drawn, with ticks at powers of ten. */
const coordinateOf = (one, places) => {
  const label = short(one.last ?? one.title, 22), values = places.map(one.isKey ? one.order : one.of);
  if (one.isKey) return {label, values, range: [-0.1, one.values.length - 0.9], ticktext: one.values.map(plain),
    tickvals: one.values.length > 30 ? [] : [...one.values.keys()]};
  const logs = one.log ? values.map(Math.log10) : [];
  return one.log && logs.every(Number.isFinite) ? {label, values: logs, ...logTicks(logs, one.share)} :
    {label, values, tickformat: one.share ? "~%" : ""};
};
const drawParallel = () => {
  brushed = null;
  filter();
  const plot = $("parallel_plot"), shown = data.coordinates.map(name => columns.get(name));
  const color = columns.get($("parallel_color").value), needed = [...shown, color].filter(Boolean);
  const places = every.filter(place => needed.every(has(place)));
  $("parallel").hidden = places.length < 2 || shown.length < 2;
  if ($("parallel").hidden) return;
  $("parallel_note").textContent = places.length === runs.length ? "" :
    `Without all of these numbers, and not drawn: ${plural(runs.length - places.length, "run")}.`;
  const {values, tickvals, ticktext, tickformat} = coordinateOf(color, places);
  Plotly.newPlot(plot, [{type: "parcoords", dimensions: shown.map(one => coordinateOf(one, places)), labelangle: -12,
    rangefont: {size: 1, color: "rgba(0,0,0,0)"}, line: {color: values, colorscale: scaleOf(ink), showscale: true,
      colorbar: barOf(color, {tickvals, ticktext, tickformat})}}],
  layoutOf({margin: {l: 60, r: 40, t: 76, b: 24}}), CONFIG);
  plot.on("plotly_restyle", () => {
    const brushes = plot.data[0].dimensions.filter(one => one.constraintrange?.length);
    const inside = ({constraintrange: kept, values}, index) => (Array.isArray(kept[0]) ? kept : [kept]).some(
      ([low, high]) => low <= values[index] && values[index] <= high);
    brushed = brushes.length ? new Set(places.filter((_, index) => brushes.every(one => inside(one, index)))) : null;
    filter();
  });
};

// The view of one run.
const showRun = place => {
  const run = runs[place], list = make("dl"), code = text => make("code", {}, text);
  const say = (name, ...what) => list.append(make("dt", {}, name), make("dd", {}, ...what));
  const zero = run.zero === null ? "not reached" : `from epoch ${run.zero} on`;
  for (const words of [["state", run.state + (run.message ? `: ${run.message}` : "")], ...Object.entries(run.values),
    ["last evaluated epoch", run.last ?? "none"], ["zero error", zero], ["key", code(run.key)]]) say(...words);
  const copy = ({target}) => navigator.clipboard.writeText(run.command).then(() => { target.textContent = "copied"; });
  if (run.command) say("command", code(run.command), " ", make("button", {type: "button", onclick: copy}, "copy"));
  if (run.folder) say("files", make("a", {href: `${run.folder}/`}, "its folder"),
    ...run.figures.flatMap(([name, href]) => [" · ", make("a", {href}, name)]));
  const [href, served] = run.mlflow ?? [], page = make("a", {href, rel: "noreferrer"}, "its page");
  if (href) say("MLflow", page, ...(served ? [", while ", code(served), " runs"] : []));
  if (run.last === null) list.append(make("p", {className: "instead"}, "Nothing was evaluated in this run."));
  $("one").replaceChildren(make("a", {href: "#all"}, `← all of the report (${plural(runs.length, "run")})`),
    make("h1", {}, run.name), ...(runs.length === 1 ? [document.querySelector(".verdict").cloneNode(true)] : []), list,
    panelsOf(place, data.quantities.filter(one => one.in_panel)),
    make("div", {className: "panels pictures"}, ...run.pictures.map(one => panelOf(place, one.title, one))));
  for (const [family, rows] of Map.groupBy(data.quantities.filter(one => !one.in_panel), one => one.family)) {
    const panels = panelsOf(place, rows), summary = make("summary", {}, `more: ${family || "of the run"}`);
    if (panels.children.length) $("one").append(make("details", {}, summary, panels));
  }
  for (const panel of $("one").querySelectorAll(".panel")) inSight.observe(panel);
};
/** A panel is drawn when it comes into sight: a run has dozens. */
const inSight = new IntersectionObserver(entries => entries.forEach(({target, isIntersecting: comes}) => {
  if (comes) inSight.unobserve(target), drawPanel(target, ...target.what);
}), {rootMargin: "200px"});
const panelOf = (...what) => make("div", {className: "panel", role: "img", ariaLabel: what[1], what});
const panelsOf = (place, rows) => {
  const known = Map.groupBy(rows.filter(one => historyOf(one.name)[place]), one => one.panel);
  return make("div", {className: "panels"}, ...[...known].map(([title, list]) => panelOf(place, title, list)));
};
/** Train solid, test dashed, a second quantity dotted; modes in their scale, the parts of the loss in their colours. */
const drawPanel = (panel, place, title, rows) => {
  const inked = one => one.line ? {...one, line: {...one.line, color: ink(one.line.color)}} : one;
  if (rows.data) return Plotly.newPlot(panel, {...rows, data: rows.data.map(inked),
    config: {...CONFIG, displayModeBar: false}, layout: layoutOf({...rows.layout,
      title: {text: title, font: {size: 13}, y: 0.98, yanchor: "top"}})});
  const bases = [...new Set(rows.map(one => one.base))], modes = bases.length > 3 && !rows[0].color;
  const {zero} = runs[place], some = rows.some(({name}) => historyOf(name)[place].some(value => value > 0));
  const traces = rows.map(one => {
    const index = bases.indexOf(one.base), values = historyOf(one.name)[place], alone = modes || one.color;
    const mode = data.scale[Math.round(index / bases.length * data.scale.length)];
    const name = plain((bases.length > 1 ? `${one.curve}, ` : "") + one.split);
    const dash = one.split === "test" ? "dash" : index && !alone ? "dot" : "solid";
    return {type: "scatter", mode: "lines+markers", name, x: data.epochs[place], y: values, hoverinfo: "text",
      marker: {size: 4}, line: {color: ink(one.color ?? (modes ? mode : data.blue)), width: 1.6, dash},
      text: values.map((value, step) => `${name}<br>epoch ${data.epochs[place][step]}: ${word(value, one.share)}`)};
  });
  const red = {type: "line", x0: zero, x1: zero, yref: "paper", y0: 0, y1: 1, line: {color: ink(data.red), width: 1.5}};
  Plotly.newPlot(panel, traces, layoutOf({title: {text: plain(title), font: {size: 13}, x: 0.02, y: 0.97},
    xaxis: axisOf(null, false), yaxis: axisOf(rows[0], rows[0].log && some), margin: {l: 48, r: 10, t: 30, b: 30},
    showlegend: traces.length > 1, legend: {orientation: "h", y: -0.12, font: {size: 10}},
    shapes: zero === null ? [] : [red]}), {...CONFIG, displayModeBar: false});
};

// Which of the two is shown stands in the address: #run=KEY. The way back is the browser's.
let scrolled = 0, drawn = false;
const route = () => {
  const key = new URLSearchParams(location.hash.slice(1)).get("run"), single = runs.length === 1 && !location.hash;
  const place = single ? 0 : runs.findIndex(one => one.key === key), before = $("one").hidden;
  if (before && place >= 0) scrolled = scrollY;
  [$("all").hidden, $("one").hidden] = [place >= 0, place < 0];
  if (place >= 0) return showRun(place), scrollTo(0, 0);
  if (!drawn) { // what is drawn while it is hidden has no size
    drawn = true;
    if (data.quantities.length) draw();
    fillTable();
    drawParallel();
  }
  if (!before) scrollTo(0, scrolled);
  return key === null || ($("note").textContent = `This report has no run of key ${key}.`);
};
// The table of runs that asks nothing gives way to the one above it.
for (const one of document.querySelectorAll("#runs, nav a[href='#runs']")) one.hidden = true;
for (const one of document.querySelectorAll(".js, #explore, #all_runs")) one.hidden = false;
[$("controls").hidden, $("nothing").hidden] = [!data.quantities.length, data.quantities.length > 0];
for (const [name, value] of Object.entries(data.view)) controls[name].value = value;
if (data.quantities.length) {
  fitSplits();
  fitLogs();
  $("parallel_color").value = asked().y.name;
}
$("parallel_color").onchange = drawParallel;
$("controls").onchange = ({target: {name}}) => {
  if (name === "quantity") fitSplits();
  if (["quantity", "against", "split"].includes(name)) fitLogs();
  draw();
  fillTable();
  filter();
};
$("filter").oninput = filter;
$("everything").onclick = () => ([picked, $("filter").value] = [null, ""], drawParallel());
addEventListener("hashchange", route);
dark.addEventListener("change", () => route(drawn = false));
route();
};
ask(JSON.parse($("data").textContent));
