(() => {
  const table = document.getElementById("table"), body = table.tBodies[0];
  document.getElementById("all-columns").addEventListener("change", event =>
    table.classList.toggle("all-columns", event.target.checked));
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, at) => {
    heading.tabIndex = 0;
    const sort = () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach(other => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = row => row.cells[at].dataset.sort;
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === "" || y === "") return (x === "") - (y === "");  // absent values stay at the end
        const order = x.localeCompare(y, undefined, {numeric: true});
        const numbers = Number(x) - Number(y);
        return (up ? 1 : -1) * (Number.isNaN(numbers) ? order : numbers);
      });
      body.append(...rows);
    };
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", event => { if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();  // Space would scroll
      sort();
    });
  });
})();
