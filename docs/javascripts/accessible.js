// Names and focus that the theme leaves out, for readers with a screen reader or without a mouse.
function mend() {
  document.querySelector(".md-search").setAttribute("aria-label", "Search");
  document.querySelectorAll("nav.md-nav[aria-labelledby]").forEach((nav, number) => {
    const title = nav.querySelector(":scope > .md-nav__title");
    nav.removeAttribute("aria-labelledby");
    nav.setAttribute("aria-label", `${title ? title.innerText.trim() : "Pages"}, part ${number + 1}`);
  });
  document.querySelectorAll(".md-code__nav").forEach((nav) => nav.setAttribute("role", "presentation"));
  document.querySelectorAll(".md-typeset__scrollwrap").forEach((table) => { table.tabIndex = 0; });
}
mend();
// The theme wraps tables and adds buttons later.
new MutationObserver(mend).observe(document.body, {childList: true, subtree: true});
