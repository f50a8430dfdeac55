// A pump's last 24 hours: reservoir, motor state as a band with words, alarms as marks with words.
"use strict";

(() => {
  const holder = document.getElementById("plot");
  const words = document.getElementById("plot-words");
  if (!holder) return;
  const HEIGHT = 280, BAND = 14;
  let plot = null, last = null;

  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const hour = (time) => new Date(time * 1000).getHours() === 0 ? date.format(time * 1000) : clock.format(time * 1000);
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const MOTOR = { running: "--running", stalled: "--stalled", stopped: "--stopped", telemetry_mode: "--stopped" };

  // A sample says what was so until the next one, but not for longer than three usual intervals: silence is no state.
  function spans(data) {
    const times = data.event_time, gaps = times.slice(1).map((time, index) => time - times[index]).sort((a, b) => a - b);
    const usual = gaps.length ? gaps[Math.floor(gaps.length / 2)] : 900, found = [];
    times.forEach((time, index) => {
      const motor = data.motor[index];
      if (!motor) return;
      const end = Math.min(times[index + 1] ?? time + usual, time + 3 * usual);
      const before = found.at(-1);
      if (before && before.motor === motor && time - before.end < 1) before.end = end;
      else found.push({ motor, start: time, end });
    });
    return found;
  }

  function marks(data) {
    const found = [];
    let before = new Set();
    data.alarms.forEach((codes, index) => {
      const now = new Set(codes);
      for (const code of now) if (!before.has(code)) found.push({ code, at: data.event_time[index] });
      before = now;
    });
    return found;
  }

  function drawBand(u, found) {
    const { ctx, bbox } = u, ratio = devicePixelRatio || 1, height = BAND * ratio;
    ctx.save();
    ctx.font = `600 ${10 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    for (const span of found) {
      const left = Math.max(u.valToPos(span.start, "x", true), bbox.left);
      const right = Math.min(u.valToPos(span.end, "x", true), bbox.left + bbox.width);
      if (right <= left) continue;
      const top = bbox.top + bbox.height - height, width = Math.max(right - left, 2 * ratio);
      ctx.fillStyle = style(MOTOR[span.motor] ?? "--unknown");
      ctx.fillRect(left, top, width, height);
      const text = span.motor.replaceAll("_", " ");
      if (ctx.measureText(text).width + 8 * ratio < width) {
        ctx.fillStyle = style("--on-strong");
        ctx.fillText(text, left + 4 * ratio, top + height / 2);
      }
    }
    ctx.restore();
  }

  function drawMarks(u, found) {
    const { ctx, bbox } = u, ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = style("--high");
    ctx.lineWidth = 1.5 * ratio;
    ctx.setLineDash([4 * ratio, 3 * ratio]);
    ctx.textBaseline = "middle";
    ctx.font = `600 ${11 * ratio}px system-ui, sans-serif`;
    found.forEach((mark, index) => {
      const x = u.valToPos(mark.at, "x", true), y = bbox.top + (12 + 14 * (index % 3)) * ratio;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const text = `▲ ${mark.code.replaceAll("_", " ")}`;
      const onRight = x + ctx.measureText(text).width + 6 * ratio < bbox.left + bbox.width;
      ctx.textAlign = onRight ? "left" : "right";
      ctx.fillText(text, onRight ? x + 4 * ratio : x - 4 * ratio, y);
    });
    ctx.restore();
  }

  function options(data, width) {
    const soft = style("--soft"), line = style("--line"), found = spans(data), alarms = marks(data);
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const warm = data.temperature_celsius.some((value) => value !== null);
    const value = (unit) => (u, raw) => raw === null || raw === undefined ? "—" : `${raw.toFixed(2)} ${unit}`;
    return {
      width,
      height: HEIGHT,
      scales: {
        x: { time: true, range: () => [Date.parse(data.since) / 1000, Date.parse(data.until) / 1000] },
        ml: { range: (u, low, high) => [0, Math.max(1, (high ?? 1) * 1.15)] },
      },
      axes: [
        { ...axis, values: (u, splits) => splits.map(hour) },
        { ...axis, scale: "ml", label: "mL", labelSize: 18, size: 42 },
        ...(warm ? [{ ...axis, scale: "c", side: 1, label: "°C", labelSize: 18, size: 42, grid: { show: false } }] : []),
      ],
      series: [
        { label: "Time here", value: (u, raw) => raw === null ? "—" : `${date.format(raw * 1000)} ${clock.format(raw * 1000)}` },
        { label: "Reservoir, estimated", scale: "ml", stroke: style("--link"), width: 2, spanGaps: false, value: value("mL") },
        { label: "measured", scale: "ml", stroke: style("--has"), width: 2, paths: () => null, points: { show: true, size: 6 }, value: value("mL") },
        ...(warm ? [{ label: "Temperature", scale: "c", stroke: style("--medium"), width: 1, value: value("°C") }] : []),
      ],
      hooks: { draw: [(u) => drawBand(u, found), (u) => drawMarks(u, alarms)] },
    };
  }

  function draw() {
    if (!last) return;
    plot?.destroy();
    holder.replaceChildren();
    const columns = [last.event_time, last.reservoir_estimated_ml, last.reservoir_measured_ml];
    if (last.temperature_celsius.some((value) => value !== null)) columns.push(last.temperature_celsius);
    plot = new uPlot(options(last, holder.clientWidth), columns, holder);
    holder.dataset.drawn = String(last.event_time.length);
  }

  async function load() {
    try {
      const answer = await fetch(holder.dataset.source, { signal: AbortSignal.timeout(8000) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      last = await answer.json();
      const empty = last.event_time.length === 0;
      words.textContent = empty
        ? "No readings in the last 24 hours. That says nothing about the pump: no data is not good news."
        : "The band says what the motor did; where it is empty, the pump did not say.";
      if (!empty) draw();
    } catch {
      words.textContent = "The plot could not be loaded; the numbers stand in the table below.";
    }
  }

  load();
  let due = null;
  document.addEventListener("pumpwatch:news", () => { clearTimeout(due); due = setTimeout(load, 500); });
  setInterval(load, 60000);
  let size = null;
  addEventListener("resize", () => { clearTimeout(size); size = setTimeout(draw, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
