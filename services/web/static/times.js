// Adds the reader's local time to every UTC time, and keeps ages running.
"use strict";

(() => {
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short" });
  const isUtc = new Date().getTimezoneOffset() === 0;

  function localise(root) {
    if (isUtc) return;
    for (const time of root.querySelectorAll("time[datetime]:not([data-done])")) {
      time.dataset.done = "1";
      const here = document.createElement("span");
      here.className = "here";
      here.textContent = ` (${clock.format(new Date(time.dateTime))})`;
      time.append(here);
    }
  }

  // The same words as services/web/words.py.
  function duration(milliseconds) {
    const seconds = Math.max(0, Math.floor(milliseconds / 1000));
    const minutes = Math.floor(seconds / 60), hours = Math.floor(seconds / 3600), days = Math.floor(seconds / 86400);
    if (seconds < 60) return `${seconds} s`;
    if (minutes < 60) return `${minutes} min`;
    if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
    return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
  }

  function age() {
    for (const shown of document.querySelectorAll("[data-since]")) {
      shown.textContent = `${duration(Date.now() - Date.parse(shown.dataset.since))} ago`;
    }
  }

  function onNews() {
    localise(document);
    age();
  }

  onNews();
  setInterval(age, 5000);
  document.addEventListener("pumpwatch:news", onNews);
})();
