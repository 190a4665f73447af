#!/bin/bash
# Makes the example configuration or the settings' part of lossd.yaml(5) from what the daemon itself says of its
# settings, so that neither can drift: settings.sh example|man LOSSD PREFIX
set -euo pipefail
kind=$1 lossd=$2 prefix=$3
"$lossd" --dump-settings | awk -F '\t' -v kind="$kind" -v prefix="$prefix" '
function when() { return $4 == "restart" ? "taken at a restart" : "taken by a reload too" }
function escape(text) { gsub(/-/, "\\-", text); return text }
BEGIN {
  if (kind == "example") {
    print "# Settings of lossd, see lossd.yaml(5). A # without a blank behind it stands before a default: to change that,"
    print "# remove the # (and that of `limits:` for what stands under it). `systemctl reload lossd` takes over what"
    print "# it can, and fails where something is wrong: the settings before stay then."
  }
}
{
  count = split($1, parts, ".")
  name = parts[count]
  value = $5 == "list" ? "[" $2 "]" : $2
  if (kind == "man") {
    printf ".TP\n.B %s\n%s (%s; default %s; %s).\n", escape($1), toupper(substr($6, 1, 1)) substr($6, 2), \
      escape($3), escape($2 == "" ? "none" : $2), when()
    next
  }
  if (count == 2 && parts[1] != section) {
    section = parts[1]
    printf "\n#%s:\n", section
  } else if (count == 1) {
    print ""
  }
  indent = count == 2 ? "  " : ""
  printf "%s# %s (%s; %s)\n", indent, toupper(substr($6, 1, 1)) substr($6, 2), $3, when()
  if ($1 == "plugin_folders") printf "plugin_folders: [%s/lib/lossd/plugins, /etc/lossd/plugins]\n", prefix
  else printf "%s#%s: %s\n", indent, name, value
}'
