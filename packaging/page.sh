#!/bin/bash
# Prints a page of docs/ as it is installed: page.sh PAGE PREFIX [LINK=TARGET...]
# Links to what is installed elsewhere than in the source get their TARGET; links to what is not installed become text.
# A LINK is as it stands in the page; names of other pages stay.
set -euo pipefail
page=$1 prefix=$2
shift 2
script="s#/usr/(sbin|lib/lossd|share/doc)#$prefix/\1#g"
for pair in "$@"; do
  link=${pair%%=*}
  script+="; s#\]\(${link//./\\.}\)#](${pair#*=})#g"
done
# What still points out of docs/ is in the source alone.
script+="; s#\[([^][]*)\]\((\.\./[^)]*)\)#\1#g"
sed -E "$script" "$page"
