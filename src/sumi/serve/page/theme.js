// Before anything is drawn: day or night, if the person chose one. A script of the old kind, since a module would come too late.
try {
  const { theme } = JSON.parse(localStorage.getItem("sumi.prefs")) ?? {};
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // Nothing is kept here: the system's choice stands.
}
