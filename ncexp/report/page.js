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
const worth = cell => cell.dataset.value ?? cell.textContent.replace(/^\[|^–.*/, "");
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
  for (const head of table.tHead?.rows[0].cells ?? []) {
    head.append(make("button", {type: "button", onclick: () => sortBy(head)}, ...head.childNodes));
  }
};
document.querySelectorAll("table").forEach(makeSortable);

const ask = data => {
const MANY = 60, MOST_FACETS = 12, MOST_VALUES = 12, MOST_COORDINATES = 10, LONGEST = 44;
const BAD = ["diverged", "failed", "damaged"];
const runs = data.runs, every = [...runs.keys()], dark = matchMedia("(prefers-color-scheme: dark)");

// Small helpers.
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
const cached = make => {
  const found = new Map();
  return name => (found.has(name) || found.set(name, make(name)), found.get(name));
};
const groupBy = (items, of) => {
  const found = new Map();
  for (const item of items) found.set(of(item), [...(found.get(of(item)) ?? []), item]);
  return found;
};
const moments = values => {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {mean, deviation: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0};
};

// Columns: all that has a value for every run. A share is a fraction; people read percent.
const finalOf = cached(name => data.final[name].map(numberOf));
const quantities = new Map(data.quantities.map(one => [one.name, {...one, of: place => finalOf(one.name)[place]}]));
const keys = new Map(data.keys.map(one => {
  const text = place => runs[place].values[one.name];
  return [one.name, {...one, title: one.name, isKey: true, text, order: place => one.values.indexOf(text(place)),
    of: place => one.numeric ? numberOf(text(place)) : text(place)}];
}));
const columns = new Map([...keys, ...quantities]);
/** The numbers of a quantity at the evaluated epochs of every run; null where a run has none. */
const historyOf = cached(name => (data.history[name] ?? []).map(text => text &&
  [...new Float32Array(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer)]));
/** What is said of a run where it is pointed at: its name, its keys and, where it is not completed, its state. */
const about = cached(place => [`<b>${plain(runs[place].name)}</b>`,
  ...Object.entries(runs[place].values).slice(0, MOST_VALUES).map(([key, value]) => `${plain(key)} = ${plain(value)}`),
  ...(completed(place) ? [] : [`state = ${runs[place].state}`])].join("<br>"));
const completed = place => runs[place].state === "completed";

// Colours, from style.py. On a dark page what is dark is lightened, on a light one the reverse; the hue stays.
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const ink = colour => {
  const parts = [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16) / 255);
  const high = Math.max(...parts), low = Math.min(...parts), light = (high + low) / 2;
  const aim = dark.matches ? Math.max(light, 0.62) : Math.min(light, 0.52);
  const stretch = high === low ? 0 : (1 - Math.abs(2 * aim - 1)) / (1 - Math.abs(2 * light - 1));
  const letters = parts.map(one => Math.round(255 * (aim + stretch * (one - light))).toString(16).padStart(2, "0"));
  return `#${letters.join("")}`;
};
const ramp = paint => data.scale.map((colour, place) => [place / (data.scale.length - 1), paint(colour)]);
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

// Mean and band over seeds, as in curves.py.
/** At the positions that all seeds have: mean and one standard deviation to both sides; on a logarithmic axis of the
    logarithms. Where one seed's value is undefined the mean is: one over other seeds from epoch to epoch would jump. */
const bandOf = (seeds, log) => {
  if (seeds.length === 1) return seeds[0];
  const [to, back] = log ? [value => value > 0 ? Math.log(value) : NaN, Math.exp] : [value => value, value => value];
  const found = seeds.map(one => new Map(one.x.map((position, place) => [position, to(one.mean[place])])));
  const x = seeds[0].x.filter(position => found.every(one => one.has(position)));
  const over = x.map(position => moments(found.map(one => one.get(position))));
  return {x, places: seeds.flatMap(one => one.places), mean: over.map(one => back(one.mean)),
    low: over.map(one => back(one.mean - one.deviation)), high: over.map(one => back(one.mean + one.deviation))};
};
const countOf = band => band.mean.filter(Number.isFinite).length;
/** One band, or one of each run: while some are not done, and where the mean would show less than half of a run. */
const bandsOf = (members, name, log) => {
  const apart = members.filter(place => historyOf(name)[place]).map(place => ({x: data.epochs[place], places: [place],
    mean: historyOf(name)[place]}));
  const together = apart.length ? [bandOf(apart, log)] : [];
  const alike = apart.every(one => completed(one.places[0]) && 2 * countOf(together[0]) >= countOf(one));
  return (alike ? together : apart).filter(countOf);
};
/** The band as closed outlines, one between two gaps. */
const outlineOf = band => {
  const pieces = [[]];
  band.x.forEach((_, place) => Number.isFinite(band.mean[place]) ? pieces.at(-1).push(place) : pieces.push([]));
  return {x: pieces.flatMap(one => [...one, ...one.toReversed()].map(place => band.x[place]).concat(null)),
    y: pieces.flatMap(one => [...one.map(place => band.high[place]), ...one.toReversed().map(place => band.low[place]), null])};
};

// What is asked: the controls.
const controls = $("controls").elements;
const options = (select, groups, chosen) => {
  select.replaceChildren(...[...groups].flatMap(([label, list]) => {
    const entries = list.map(([value, text]) => make("option", {value}, text));
    return label ? [make("optgroup", {label}, ...entries)] : entries;
  }));
  if ([...select.options].some(one => one.value === chosen)) select.value = chosen;
};
const fillControls = view => {
  const first = quantities.get(view.quantity) ?? data.quantities[0];
  const heads = [...groupBy(data.quantities, one => one.base).values()].map(([one]) => one);
  options(controls.quantity, [...groupBy(heads, one => one.family)].map(([family, list]) => [family || "of the run",
    list.map(one => [one.base, one.symbol ? `${one.label}: ${one.symbol}` : one.label])]), first.base);
  fillSplits(first.split);
  const named = [...keys.keys()].map(name => [name, name]), ends = data.quantities.map(one => [one.name, one.title]);
  options(controls.against, [["", [["epoch", "epoch"]]], ["keys", named], ["numbers at the end", ends]], view.against);
  for (const [name, none] of [["second", "none"], ["color", "each setting"], ["facet", "one panel"]])
    options(controls[name], [["", [["", none], ...named]]], view[name]);
};
const fillSplits = chosen => {
  const splits = data.quantities.filter(one => one.base === controls.quantity.value).map(one => one.split);
  options(controls.split, [["", splits.map(one => [one, one || "none"])]], chosen);
  controls.split.disabled = splits.length < 2;
};
const asked = () => {
  const chosen = name => columns.get(controls[name].value);
  const x = chosen("against"), kind = !x ? "epoch" : !x.isKey ? "scatter" : chosen("second") ? "heat" : "axis";
  const y = data.quantities.find(one => one.base === controls.quantity.value && one.split === controls.split.value);
  const want = {kind, x, y: quantities.get(y.name), second: kind === "heat" ? chosen("second") : null,
    color: chosen("color"), facet: chosen("facet"), logx: controls.logx.checked, logy: controls.logy.checked};
  want.extra = [...new Set([x, want.second, want.color, want.facet])].filter(one => one?.isKey && !data.axes.includes(one.name));
  want.repeats = place => JSON.stringify([runs[place].setting, ...want.extra.map(one => one.text(place))]);
  want.pool = poolOf(want);
  const label = labelsOf(want);
  if (new Set(want.pool.map(want.repeats)).size > MANY) want.color ??= keys.get(data.axes[0]);
  const names = [...new Set(want.pool.map(label))];
  want.paint = cached(place => want.color ? {name: `${want.color.name} = ${want.color.text(place) ?? "–"}`,
    colour: ink(want.color.colors[want.color.order(place)] ?? "#808080")} :
    {name: label(place), colour: ink(data.palette[names.indexOf(label(place)) % data.palette.length])});
  return want;
};
/** The runs that settings keep; all for a scatter, and where a key is asked for by which they were chosen. */
const poolOf = want => every.filter(place => want.kind === "scatter" || runs[place].kept ||
  want.extra.some(one => data.free.includes(one.name)));
/** What tells one line from another: the axes but for the one that runs along it. */
const linesOf = want => [...data.axes.map(name => keys.get(name)), ...want.extra].filter(one => want.kind !== "axis" || one !== want.x);
const labelsOf = want => cached(place => linesOf(want).map(one => `${one.name.split(".").at(-1)}=${one.text(place) ?? "–"}`)
  .join(", ") || "all runs");
/** Axes as the catalogue and the spacing of a key have them. */
const setLogs = () => {
  const {x, y} = asked();
  [controls.logx.checked, controls.logy.checked] = [x?.log ?? false, y.log];
};

// The views: each returns traces for one panel; `meta` or `customdata` are the runs that a click means.
const legendOf = (want, place, showlegend = true) => ({type: "scatter", hoverinfo: "text", showlegend,
  legendgroup: want.paint(place).name, name: short(want.paint(place).name, LONGEST)});
const said = (want, place) => `<br>${plain(want.y.title)} ${word(want.y.of(place), want.y.share)}`;

const curves = (want, members) => {
  const groups = [...groupBy(members, want.repeats).values()], many = groups.length > MANY, label = labelsOf(want);
  const drawn = groups.flatMap(group => bandsOf(group, want.y.name, want.logy).flatMap(band => {
    const {colour} = want.paint(group[0]), seeds = band.places.length;
    const head = seeds === 1 ? about(band.places[0]) : `<b>${plain(label(group[0]))}</b><br>mean of ${seeds} seeds`;
    const line = {...legendOf(want, group[0]), x: band.x, y: band.mean, meta: band.places,
      mode: countOf(band) === 1 ? "markers" : "lines", line: {color: colour, width: many ? 0.7 : 1.8},
      marker: {color: colour, size: 8}, text: band.mean.map((value, place) =>
        `${head}<br>epoch ${band.x[place]}: ${plain(want.y.title)} ${word(value, want.y.share)}`)};
    return seeds === 1 || many ? [line] : [{...legendOf(want, group[0], false), ...outlineOf(band), mode: "lines",
      line: {width: 0}, fill: "toself", fillcolor: `${colour}2e`, hoverinfo: "skip"}, line];
  }));
  return many ? drawn : [...drawn, ...zeroLines(want, groups, drawn)];
};
/** A dotted line at the mean of the zero-error epochs of the seeds that reached one. */
const zeroLines = (want, groups, drawn) => {
  const heights = drawn.flatMap(one => one.y).filter(value => Number.isFinite(value) && (!want.logy || value > 0));
  const [low, high] = [heights.reduce((a, b) => Math.min(a, b), Infinity), heights.reduce((a, b) => Math.max(a, b), -Infinity)];
  const middle = want.logy ? Math.sqrt(low * high) : (low + high) / 2, label = labelsOf(want);
  return groups.flatMap(group => {
    const reached = group.map(place => runs[place].zero).filter(epoch => epoch !== null), {mean} = moments(reached);
    const count = group.length > 1 ? ` (${reached.length} of ${group.length} seeds)` : "";
    return reached.length && heights.length ? [{...legendOf(want, group[0], false), mode: "lines", x: [mean, mean, mean],
      y: [low, middle, high], meta: group, line: {color: want.paint(group[0]).colour, width: 1.2, dash: "dot"},
      text: Array(3).fill(`<b>${plain(label(group[0]))}</b><br>zero error at epoch ${word(mean)}${count}`)}] : [];
  });
};

const points = (want, members) => [...groupBy(members, place => want.paint(place).name).values()].map(group => ({
  ...legendOf(want, group[0]), mode: "markers", customdata: group, x: group.map(want.x.of), y: group.map(want.y.of),
  text: group.map(place => about(place) + (want.x.isKey ? "" : `<br>${plain(want.x.title)} ` +
    word(want.x.of(place), want.x.share)) + said(want, place)),
  marker: {color: want.paint(group[0]).colour, size: want.x.isKey ? 6 : 8, opacity: want.x.isKey ? 0.4 : 0.85,
    symbol: group.map(place => completed(place) ? "circle" : "x")}}));

const finished = (want, members) => members.filter(place => completed(place) && Number.isFinite(want.y.of(place)));
/** Mean and standard error over the seeds that completed, joined where only the key on this axis differs. */
const means = (want, members) => {
  const done = finished(want, members).filter(place => want.x.order(place) >= 0), label = labelsOf(want);
  const series = [...groupBy(done, label).values()].map(group => {
    const found = [...groupBy(group, want.x.order)].sort(([one], [other]) => one - other).map(([, places]) => {
      const {mean, deviation} = moments(places.map(want.y.of)), error = deviation / Math.sqrt(places.length);
      const head = `<b>${plain(label(places[0]))}</b><br>${plain(want.x.name)} = ${plain(want.x.text(places[0]))}<br>`;
      return {places, mean, error, text: places.length === 1 ? about(places[0]) + said(want, places[0]) : `${head}` +
        `${plain(want.y.title)} ${word(mean, want.y.share)} ± ${word(error, want.y.share)}, standard error of ${places.length} seeds`};
    });
    const {colour} = want.paint(group[0]);
    return {...legendOf(want, group[0]), mode: "lines+markers", x: found.map(one => want.x.of(one.places[0])),
      y: found.map(one => one.mean), customdata: found.map(one => one.places), text: found.map(one => one.text),
      error_y: {array: found.map(one => one.error), color: colour, thickness: 1.2}, line: {color: colour, width: 1.6},
      marker: {color: colour, size: 7}};
  });
  return [...points(want, members), ...series];
};

const heat = (want, members) => {
  const table = of => want.second.values.map(y => want.x.values.map(x => {
    const there = members.filter(place => want.x.text(place) === x && want.second.text(place) === y);
    const done = finished(want, there), {mean} = moments(done.map(want.y.of));
    return of({done, mean, states: [...new Set(there.map(place => runs[place].state))].join(", "), head:
      `${plain(want.x.name)} = ${plain(x)}<br>${plain(want.second.name)} = ${plain(y)}<br>`});
  }));
  return [{type: "heatmap", x: want.x.values.map(plain), y: want.second.values.map(plain), coloraxis: "coloraxis", xgap: 1,
    ygap: 1, z: table(({mean}) => Number.isFinite(mean) ? want.logy ? Math.log10(mean) : mean : null),
    customdata: table(({done}) => done), hoverinfo: "text", hoverongaps: false, hovertext: table(({done, mean, head}) =>
      `${head}${plain(want.y.title)} ${word(mean, want.y.share)}, mean of ${plural(done.length, "run")}`),
    text: table(({done, mean}) => done.length ? word(Number(mean.toPrecision(3)), want.y.share) : ""),
    texttemplate: want.x.values.length * want.second.values.length <= 100 ? "%{text}" : ""},
  {type: "scatter", mode: "text", hoverinfo: "skip", showlegend: false, textfont: {color: css("--faint")},
    x: table(() => 0).flatMap(() => want.x.values.map(plain)), y: want.second.values.flatMap(y => want.x.values.map(() => plain(y))),
    text: table(({done, states}) => done.length ? "" : states).flat()}];
};
const VIEWS = {epoch: curves, axis: means, heat, scatter: points};

/** Why nothing can be drawn, in a sentence; empty where something can. */
const gapOf = (want, traces) => {
  const {title} = want.y;
  if (!want.pool.length) return "No run of any setting has a number yet; the table of runs says what became of each.";
  if (want.kind === "epoch" && !data.history[want.y.name])
    return `${title} against epoch is not in this file. Choose another axis, or ask for it: ncexp report y=${want.y.name}`;
  if (want.kind === "scatter" && !want.pool.some(place => Number.isFinite(want.x.of(place) + want.y.of(place))))
    return `No run has both ${title} and ${want.x.title}.`;
  const values = (want.kind === "heat" ? finished(want, want.pool).map(want.y.of) : traces.flatMap(one => one.y)).filter(Number.isFinite);
  if (!values.length) return `${title} is undefined for all of these runs, or none of them completed.`;
  return want.logy && !values.some(value => value > 0) ? `Nothing of ${title} is above 0, so a logarithmic axis has ` +
    "nothing to show. Untick “logarithmic quantity”." : "";
};
const noteOf = (want, facets) => {
  const bad = want.pool.filter(place => !completed(place)).length, free = data.free.filter(name => !want.extra.includes(keys.get(name)));
  const others = data.axes.filter(name => ![want.x, want.second, want.facet].includes(keys.get(name)));
  return [{epoch: `Mean over seeds; band: one standard deviation${want.logy ? " of the logarithms" : ""}; dotted: zero error.`,
    axis: "Mean ± standard error over seeds; faint: the runs.", scatter: "A point is a run at its last evaluated epoch.",
    heat: `Mean over the runs that completed${others.length ? `, whatever their ${others.join(", ")}` : ""}.`}[want.kind],
  free.length && want.kind !== "scatter" ? `Of each setting the best ${free.join(", ")} alone is drawn.` : "",
  bad && want.kind !== "epoch" ? `${plural(bad, "run")} did not complete${want.kind === "heat" ? "" : ": crosses"}.` : "",
  facets.length > MOST_FACETS ? `These are the first ${MOST_FACETS} of ${facets.length} panels.` : "",
  "A click on a point opens its run; a click in the legend hides a group."].filter(Boolean).join(" ");
};
const describe = ({label, symbol, meaning, at_collapse: at, source}) => $("meaning").replaceChildren(make("b", {}, label), " ",
  make("i", {}, symbol), (meaning ? `: ${meaning}.` : "") + (at !== "–" ? ` At collapse: ${at}.` : "") + (source !== "–" ? ` (${source})` : ""));

const draw = () => {
  const want = asked(), figure = $("figure"), {x, y, facet} = want, title = x?.title ?? "epoch";
  describe(y);
  $("logx_of").textContent = title;
  controls.logx.disabled = want.kind === "heat" || (x?.isKey && !x.numeric);
  controls.second.disabled = !x?.isKey;
  const facets = facet ? [...groupBy(want.pool, facet.order)].sort(([one], [other]) => one - other).map(([order, members]) =>
    [`${facet.name} = ${facet.values[order] ?? "–"}`, members]) : [["", want.pool]];
  const panels = facets.slice(0, MOST_FACETS).map(([name, members]) => [name, VIEWS[want.kind](want, members)]);
  const gap = gapOf(want, panels.flatMap(([, traces]) => traces));
  $("note").textContent = gap ? "" : noteOf(want, facets);
  figure.setAttribute("aria-label", gap || `${y.title} against ${title}, ${plural(want.pool.length, "run")}; the table of runs has the numbers`);
  if (gap) return Plotly.purge(figure), figure.replaceChildren(make("p", {className: "instead"}, gap));
  if (!figure.data) figure.replaceChildren();
  return Plotly.react(figure, ...figureOf(want, panels), CONFIG).then(() => {
    figure.removeAllListeners("plotly_click");
    figure.on("plotly_click", ({points: [point]}) => open([point.customdata ?? point.data.meta].flat(2)));
  });
};
/** Traces and layout: panels side by side as there is room, on the same axes; the legend beside or, in a narrow page, below. */
const figureOf = (want, panels) => {
  const room = $("figure").clientWidth, across = Math.min(panels.length, Math.max(1, Math.floor(room / 380)));
  const down = Math.ceil(panels.length / across), layout = {annotations: []}, seen = new Set(), heated = want.kind === "heat";
  const high = down * (panels.length > 1 ? 270 : Math.min(430, Math.max(310, innerHeight * 0.52)));
  panels.forEach(([title, traces], place) => {
    const [column, row, name] = [place % across, Math.floor(place / across), place ? place + 1 : ""], vertical = heated ? want.second : want.y;
    const x = [(column + (column ? 0.1 : 0)) / across, (column + 1) / across];
    const y = [1 - (row + (row < down - 1 ? 0.82 : 1)) / down, 1 - (row + (title ? 0.08 : 0)) / down];
    layout[`xaxis${name}`] = {...axisOf(want.x, want.logx, heated || undefined), domain: x, anchor: `y${name}`, title: {text:
      plain(want.x?.title ?? "epoch"), standoff: 6}, ...(place ? {matches: "x"} : {})};
    layout[`yaxis${name}`] = {...axisOf(vertical, want.logy && !heated, heated || undefined), domain: y, anchor: `x${name}`,
      title: {text: column ? "" : plain(vertical.title)}, ...(place ? {matches: "y"} : {})};
    layout.annotations.push({text: plain(title), showarrow: false, xref: "paper", yref: "paper", x: x[0], y: y[1], xanchor: "left",
      yanchor: "bottom"});
    for (const one of traces) {
      Object.assign(one, {xaxis: `x${name}`, yaxis: `y${name}`, showlegend: one.showlegend && !seen.has(one.legendgroup)});
      if (one.showlegend) seen.add(one.legendgroup);
    }
  });
  const beside = room > 900, below = 24 * Math.min(seen.size, 12);
  const legend = beside ? {x: 1.01, y: 1} : {orientation: "h", x: 0, y: -64 / high, yanchor: "top"};
  return [panels.flatMap(([, traces]) => traces), layoutOf({...layout, height: high + 70 + (beside ? 0 : below), showlegend: seen.size > 1,
    legend, coloraxis: {colorscale: ramp(colour => colour), colorbar: barOf(want.y, want.logy)},
    margin: {l: 50, r: 12, t: 24, b: 46 + (beside ? 0 : below)}})];
};
/** Powers of ten where the colours are logarithms. */
const barOf = (one, log) => ({title: {text: short(one.title, LONGEST), side: "right"}, thickness: 14,
  ...(log ? {tickprefix: "10<sup>", ticksuffix: "</sup>"} : {tickformat: one.share ? "~%" : ""})});

/** A click on what one run made opens it; on what several made, shows them in the table. */
const open = places => {
  if (places.length === 1) location.hash = linkTo(places[0]);
  else if (places.length) {
    picked = new Set(places);
    filter();
    $("runs").scrollIntoView();
  }
};
const linkTo = place => `#${new URLSearchParams({run: runs[place].key})}`;

// The table of runs, and the parallel coordinates, which filter it.
let picked = null, brushed = null, heads = "";
const cells = () => [
  ["run", place => make("a", {href: linkTo(place)}, runs[place].name)],
  ["state", place => make("span", {className: BAD.includes(runs[place].state) ? "bad" : ""}, runs[place].state)],
  ...[...keys.values()].map(one => [one.name, place => one.text(place) ?? "–", one.numeric ? one.of : null]),
  ["last epoch", place => word(numberOf(runs[place].last)), place => numberOf(runs[place].last)],
  ...[...quantities.values()].filter(one => one.at_once || (controls.quantity.value === one.base && controls.split.value === one.split))
    .map(one => [one.title, place => word(one.of(place), one.share), one.of]),
  ["message", place => runs[place].message]];
const fillTable = () => {
  const shown = cells(), names = shown.map(([name]) => name).join("\n");
  if (names === heads) return;
  heads = names;
  const body = make("tbody", {}, ...every.map(place => Object.assign(make("tr", {place}, ...shown.map(([, of, value]) => {
    const cell = make("td", {className: value ? "number" : ""}, of(place));
    if (value) cell.dataset.value = Number.isNaN(value(place)) ? "" : value(place);
    return cell;
  })))));
  const head = make("tr", {}, ...shown.map(([name]) => make("th", {scope: "col"}, name)));
  $("table_of_runs").replaceChildren(make("thead", {}, head), body);
  makeSortable($("table_of_runs"));
  filter();
};
const filter = () => {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean), rows = [...$("table_of_runs").tBodies[0].rows];
  for (const row of rows) row.hidden = [picked, brushed].some(one => one && !one.has(row.place)) ||
    !words.every(one => row.textContent.toLowerCase().includes(one));
  const count = rows.filter(row => !row.hidden).length;
  $("count").textContent = `${count} of ${plural(runs.length, "run")}`;
  $("everything").hidden = count === runs.length;
};

/** Parallel coordinates have no logarithmic axis: the logarithms with ticks at powers of ten. */
const logarithmic = values => {
  const [low, high] = [Math.min(...values), Math.max(...values)].map(Math.log10), first = Math.ceil(low);
  const powers = [...Array(Math.max(0, Math.floor(high) - first + 1)).keys()].map(step => first + step);
  const ticks = powers.length > 1 ? powers : [low, high];
  return {values: values.map(Math.log10), tickvals: ticks, ticktext: ticks.map(one => word(Number((10 ** one).toPrecision(3))))};
};
const dimensionOf = (one, places) => {
  const label = short(one.isKey ? one.name.split(".").at(-1) : one.title, 18);
  if (one.isKey) return {label, values: places.map(one.order), range: [-0.1, one.values.length - 0.9],
    tickvals: one.values.length > 30 ? [] : [...one.values.keys()], ticktext: one.values.map(plain)};
  const values = places.map(one.of);
  return {label, ...(one.log && values.every(value => value > 0) ? logarithmic(values) : {values, tickformat: one.share ? "~%" : ""})};
};
const drawParallel = () => {
  const plot = $("parallel_plot"), color = columns.get($("parallel_color").value);
  const shown = [...data.axes.concat(data.free).map(name => keys.get(name)), ...[...quantities.values()].filter(one => one.at_once)];
  const drawn = shown.slice(0, MOST_COORDINATES), has = (one, place) => one.isKey ? one.order(place) >= 0 : Number.isFinite(one.of(place));
  const places = every.filter(place => [...drawn, color].every(one => one && has(one, place))), left = runs.length - places.length;
  $("parallel").hidden = places.length < 2 || drawn.length < 2;
  if ($("parallel").hidden) return;
  $("parallel_note").textContent = left ? `Without all of these numbers, and not drawn: ${plural(left, "run")}.` : "";
  const {values, tickvals, ticktext, tickformat} = dimensionOf(color, places);
  Plotly.newPlot(plot, [{type: "parcoords", dimensions: drawn.map(one => dimensionOf(one, places)), labelangle: -12, labelfont: {size: 12},
    rangefont: {size: 1, color: "rgba(0,0,0,0)"}, line: {color: values, colorscale: ramp(ink), showscale: true,
      colorbar: {...barOf(color), tickvals, ticktext, tickformat}}}], layoutOf({margin: {l: 60, r: 40, t: 64, b: 24}}), CONFIG);
  plot.on("plotly_restyle", () => {
    const brushes = plot.data[0].dimensions.filter(one => one.constraintrange?.length);
    const inside = ({constraintrange: kept, values}, index) => (Array.isArray(kept[0]) ? kept : [kept]).some(([low, high]) =>
      low <= values[index] && values[index] <= high);
    brushed = brushes.length ? new Set(places.filter((_, index) => brushes.every(one => inside(one, index)))) : null;
    filter();
  });
};

// The view of one run.
const showRun = place => {
  const run = runs[place], list = make("dl"), code = text => make("code", {}, text);
  const say = (name, ...what) => list.append(make("dt", {}, name), make("dd", {}, ...what));
  say("state", run.state + (run.message ? `: ${run.message}` : ""));
  for (const [name, value] of Object.entries(run.values)) say(name, value);
  say("last evaluated epoch", String(run.last ?? "none"));
  say("zero error", run.zero === null ? "not reached" : `from epoch ${run.zero} on`);
  say("key", code(run.key));
  if (run.command) say("command", code(run.command), " ", copyButton(run.command));
  if (run.folder) say("files", make("a", {href: `${run.folder}/`}, "its folder"), ...run.figures.flatMap(([name, href]) =>
    [" · ", make("a", {href}, `figure: ${name}`)]));
  say("MLflow", ...(run.mlflow ? [make("a", {href: run.mlflow, rel: "noopener"}, "its page")] :
    ["the run ", code(run.mlflow_name), " in the pages of ", code("ncexp ui")]));
  const panels = panelsOf(place, data.quantities.filter(one => one.in_panel));
  $("one").replaceChildren(make("p", {}, make("a", {href: "#all"}, `← all of the report (${plural(runs.length, "run")})`)),
    make("h1", {}, run.name), list, panels.children.length ? panels : make("p", {className: "instead"}, "Nothing was evaluated in this run."));
  for (const [family, rows] of groupBy(data.quantities.filter(one => !one.in_panel), one => one.family)) {
    const more = panelsOf(place, rows);
    if (more.children.length) $("one").append(make("details", {}, make("summary", {}, `more: ${family || "of the run"}`), more));
  }
};
const copyButton = text => {
  const button = make("button", {type: "button"}, "copy");
  button.onclick = () => navigator.clipboard.writeText(text).then(() => { button.textContent = "copied"; },
    () => getSelection().selectAllChildren(button.parentNode.querySelector("code")));
  return button;
};
/** A panel is drawn when it comes into sight: a run has dozens. */
const inSight = new IntersectionObserver(entries => entries.filter(one => one.isIntersecting).forEach(({target}) => {
  inSight.unobserve(target);
  drawPanel(target, ...target.drawn);
}), {rootMargin: "200px"});
const panelsOf = (place, rows) => {
  const known = groupBy(rows.filter(one => historyOf(one.name)[place]), one => one.panel);
  return make("div", {className: "panels"}, ...[...known].map(([title, list]) => {
    const panel = make("div", {className: "panel", role: "img", ariaLabel: `${title} against epoch`, drawn: [place, title, list]});
    inSight.observe(panel);
    return panel;
  }));
};
/** Train solid, test dashed, a second quantity dotted; modes in their scale, the parts of the loss in their colours. */
const drawPanel = (panel, place, title, rows) => {
  const bases = [...new Set(rows.map(one => one.base))], modes = bases.length > 3 && !rows[0].color, {zero} = runs[place];
  const log = rows[0].log && rows.some(one => historyOf(one.name)[place].some(value => value > 0));
  const traces = rows.map(one => {
    const index = bases.indexOf(one.base), mode = Math.round(index / Math.max(1, bases.length - 1) * (data.scale.length - 1));
    const name = plain((bases.length > 1 ? `${modes ? one.label : one.curve}, ` : "") + one.split), values = historyOf(one.name)[place];
    const dash = one.split === "test" ? "dash" : index && !modes && !one.color ? "dot" : "solid";
    return {type: "scatter", mode: "lines+markers", name, x: data.epochs[place], y: values, hoverinfo: "text", marker: {size: 4},
      line: {color: ink(one.color ?? (modes ? data.scale[mode] : data.blue)), width: 1.6, dash},
      text: values.map((value, step) => `${name}<br>epoch ${data.epochs[place][step]}: ${word(value, one.share)}`)};
  });
  const line = {type: "line", x0: zero, x1: zero, yref: "paper", y0: 0, y1: 1, line: {color: ink(data.red), width: 1.5}};
  Plotly.newPlot(panel, traces, layoutOf({title: {text: plain(title), font: {size: 13}, x: 0.02, y: 0.97}, xaxis: axisOf(null, false),
    yaxis: axisOf(rows[0], log), margin: {l: 48, r: 10, t: 30, b: 30}, showlegend: traces.length > 1,
    legend: {orientation: "h", y: -0.12, font: {size: 10}}, shapes: zero === null ? [] : [line]}), {...CONFIG, displayModeBar: false});
};

// Which of the two is shown stands in the address: #run=KEY. The way back is the browser's.
let scrolled = 0, drawn = false;
const route = () => {
  const key = new URLSearchParams(location.hash.slice(1)).get("run"), single = runs.length === 1 && !location.hash;
  const place = single ? 0 : runs.findIndex(one => one.key === key), before = $("one").hidden;
  if (before && place >= 0) scrolled = scrollY;
  [$("all").hidden, $("one").hidden] = [place >= 0, place < 0];
  if (place >= 0) {
    showRun(place);
    scrollTo(0, 0);
  } else {
    if (!drawn) start();
    if (!before) scrollTo(0, scrolled);
    if (key !== null) $("note").textContent = `This report has no run of key ${key}.`;
  }
};
const start = () => {
  drawn = !$("all").hidden;
  if (data.quantities.length) draw();
  fillTable();
  drawParallel();
};

document.querySelectorAll(".js, #explore, #runs").forEach(one => { one.hidden = false; });
if (data.quantities.length) {
  fillControls(data.view);
  setLogs();
} else $("explore").prepend(make("p", {className: "instead"}, "No run has a number; the table of runs says what became of each."));
$("controls").hidden = !data.quantities.length;
options($("parallel_color"), [["", [...columns.values()].map(one => [one.name, one.title])]], data.view.quantity);
$("parallel_color").onchange = drawParallel;
$("controls").onchange = ({target: {name}}) => {
  if (name === "quantity") fillSplits(controls.split.value);
  if (["quantity", "against", "split"].includes(name)) setLogs();
  draw();
  fillTable();
};
$("filter").oninput = filter;
$("everything").onclick = () => {
  [picked, brushed, $("filter").value] = [null, null, ""];
  drawParallel();
  filter();
};
addEventListener("hashchange", route);
dark.addEventListener("change", () => {
  drawn = false;
  route();
});
route();
};

if ($("data")) ask(JSON.parse($("data").textContent));
