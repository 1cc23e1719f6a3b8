// The curves of the report: what was collected, turned into series for the charts, and their controls.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  if (!by("loss")) return;
  const COLOURS = 8, DASHES = ["", "7 3", "2 3", "9 3 2 3"];
  const several = data.runs.length > 1;
  const names = [...new Set(data.runs.flatMap((run) => run.stages.map((stage) => stage.name)))];
  const unit = {steps: "steps", tokens: "tokens", flops: "FLOPs"};
  const hidden = new Set(), hiddenParts = new Set();
  let axis = "steps";

  // Where a stage's step stands along the lineage: what its ancestors spent, and its own between checkpoints.
  const along = (stage) => {
    const before = {steps: 0, tokens: 0, flops: 0};
    for (const entry of stage.lineage) {
      before.steps += entry.step;
      before.tokens += entry.tokens;
      before.flops += entry.flops;
    }
    const known = [[0, 0, 0], ...stage.known.filter(([step]) => step > 0)];
    return (step) => {
      if (axis === "steps") return before.steps + step;
      if (known.length < 2) return null;
      const column = axis === "tokens" ? 1 : 2;
      const found = known.findIndex((at) => at[0] >= step);
      const next = found < 0 ? known.length - 1 : Math.max(1, found);
      const low = known[next - 1], high = known[next];
      const share = (step - low[0]) / (high[0] - low[0]);
      return before[axis] + low[column] + share * (high[column] - low[column]);
    };
  };

  // A colour for each stage's name; dashes and marks tell runs apart, and names beyond the last colour.
  const stages = data.runs.flatMap((run, number) =>
    run.stages.filter((stage) => stage.metrics.lines).map((stage) => {
      const index = names.indexOf(stage.name), mark = number + Math.floor(index / COLOURS);
      return {
        stage,
        name: several ? `${run.name}: ${stage.name}` : stage.name,
        style: `c${index % COLOURS}`,
        dash: DASHES[mark % DASHES.length],
        mark,
        along: along(stage),
      };
    }));

  const points = (one, columns, figure) => {
    const found = [];
    (columns[figure] ?? []).forEach((y, index) => {
      const x = one.along(columns.step[index]);
      if (y !== null && x !== null) found.push([x, y]);
    });
    return found.sort((a, b) => a[0] - b[0]);
  };

  // A Gaussian mean over neighbouring points, `share` per cent of them wide.
  const smooth = (found, share) => {
    const wide = (share / 100) * found.length;
    if (wide < 0.3) return found;
    const reach = Math.ceil(3 * wide);
    const weights = Array.from({length: reach + 1}, (_, k) => Math.exp(-0.5 * (k / wide) ** 2));
    return found.map(([x], index) => {
      let sum = 0, weight = 0;
      for (let k = Math.max(0, index - reach); k <= Math.min(found.length - 1, index + reach); k++) {
        sum += weights[Math.abs(k - index)] * found[k][1];
        weight += weights[Math.abs(k - index)];
      }
      return [x, sum / weight];
    });
  };

  const share = () => +by("smoothing").value;
  // Training as a smoothed line with the lines as they are, faint, behind it; an evaluation as points on a thin line.
  const training = (one, name, figure, style, dash) => {
    const raw = points(one, one.stage.metrics.train, figure), line = smooth(raw, share());
    const behind = by("raw").checked && line !== raw ? [{name, style, dash, faint: true, points: raw}] : [];
    return [...behind, {name, style, dash, points: line}];
  };
  const evaluated = (one, evaluation, name, figure, style, dash, mark) =>
    ({name, style, dash, mark, points: points(one, one.stage.metrics.evaluations[evaluation], figure)});

  document.querySelector(".charts").hidden = false;
  const charts = Object.fromEntries(
    Object.entries({loss: "Loss", rate: "Learning rate", parts: "Loss of each part", figures: "Other figures"})
      .map(([id, label]) => [id, new Chart(by(id), label)]));
  const linked = [charts.loss, charts.rate, charts.figures];
  for (const chart of linked) {
    chart.linked = linked;
    chart.onzoom = (range) => { by("reset").hidden = range === null; };
  }

  const shown = () => stages.filter((one) => !hidden.has(one.name));
  const evaluations = (one) => Object.keys(one.stage.metrics.evaluations);

  const drawLoss = () => {
    charts.loss.show(shown().flatMap((one) => [
      ...training(one, one.name, "loss", one.style, one.dash),
      ...evaluations(one).map((each) => evaluated(one, each, `${one.name}, ${each}`, "loss", one.style, one.dash, one.mark)),
    ]), unit[axis]);
    charts.rate.show(shown().map((one) =>
      ({...one, points: points(one, one.stage.metrics.train, "learning_rate"), mark: undefined})), unit[axis]);
  };

  const drawFigure = () => {
    const figure = by("figure").value;
    charts.figures.show(shown().flatMap((one) => [
      ...training(one, one.name, figure, one.style, one.dash),
      ...evaluations(one).map((each) => evaluated(one, each, `${one.name}, ${each}`, figure, one.style, one.dash, one.mark)),
    ]), unit[axis]);
  };

  const parted = (columns) => Object.keys(columns).filter((figure) => figure.startsWith("loss/"));
  const kinds = (one) => [
    ...(parted(one.stage.metrics.train).length ? ["training"] : []),
    ...evaluations(one).filter((each) => parted(one.stage.metrics.evaluations[each]).length),
  ];
  const withParts = stages.filter((one) => kinds(one).length);

  const drawParts = () => {
    const one = withParts[+by("part-stage").value], kind = by("part-kind").value;
    if (!one) return;
    const columns = kind === "training" ? one.stage.metrics.train : one.stage.metrics.evaluations[kind];
    const parts = parted(columns).map((figure) => figure.slice(5));
    legend(by("part-legend"), parts.map((name, index) => ({name, ...look(index)})), hiddenParts, drawParts);
    charts.parts.show(parts.flatMap((name, index) => {
      if (hiddenParts.has(name)) return [];
      const {style, dash} = look(index);
      return kind === "training"
        ? training(one, name, `loss/${name}`, style, dash)
        : [evaluated(one, kind, name, `loss/${name}`, style, dash, Math.floor(index / COLOURS))];
    }), unit[axis]);
  };
  const look = (index) => ({style: `c${index % COLOURS}`, dash: DASHES[Math.floor(index / COLOURS) % DASHES.length]});

  const legend = (host, entries, off, draw) => {
    if (host.children.length === entries.length && entries.every((entry, k) => host.children[k].textContent === entry.name)) return;
    host.replaceChildren(...entries.map(({name, style, dash}) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = style;
      button.innerHTML = `<svg viewBox="0 0 22 8" aria-hidden="true"><path class="line ${style}" stroke-dasharray="${dash}" d="M0 4H22"/></svg>${escaped(name)}`;
      button.setAttribute("aria-pressed", String(!off.has(name)));
      button.addEventListener("click", () => {
        if (!off.delete(name)) off.add(name);
        button.setAttribute("aria-pressed", String(!off.has(name)));
        draw();
      });
      return button;
    }));
  };

  const options = (select, values, words = values) =>
    select.replaceChildren(...values.map((value, index) => new Option(words[index], value)));

  const drawAll = () => {
    by("smoothed").textContent = `${share()}\u202f%`;
    drawLoss();
    drawFigure();
    drawParts();
  };
  const whole = () => { charts.loss.zoom(null); charts.parts.zoom(null); };

  const figures = [...new Set(stages.flatMap((one) => [
    ...Object.keys(one.stage.metrics.train),
    ...evaluations(one).flatMap((each) => Object.keys(one.stage.metrics.evaluations[each])),
  ]))].filter((figure) => !["step", "loss", "learning_rate"].includes(figure) && !figure.startsWith("loss/"));
  options(by("figure"), figures, figures.map((figure) => figure.replaceAll("_", " ")));
  options(by("part-stage"), withParts.map((_, index) => index), withParts.map((one) => one.name));
  by("partly").hidden = !withParts.length;
  const chooseKind = () => options(by("part-kind"), kinds(withParts[+by("part-stage").value] ?? stages[0]));
  chooseKind();

  legend(by("legend"), stages, hidden, () => { drawLoss(); drawFigure(); });
  by("figure").addEventListener("change", drawFigure);
  by("part-stage").addEventListener("change", () => { chooseKind(); charts.parts.zoom(null); drawParts(); });
  by("part-kind").addEventListener("change", drawParts);
  by("reset").addEventListener("click", whole);
  by("smoothing").addEventListener("input", drawAll);
  by("raw").addEventListener("change", drawAll);
  for (const choice of document.querySelectorAll("[name=axis]"))
    choice.addEventListener("change", () => { axis = choice.value; whole(); drawAll(); });
  drawAll();
})();
