#!/bin/bash
# Copies what was built to where it is used: DESTDIR, PREFIX and BUILD in the environment. Settings that are
# there already stay.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr/local} root=${DESTDIR:-} build=${BUILD:-.build/release}
to=$root$prefix

install -d "$to"/{bin,sbin,include/lossd,lib/{lossd/plugins,systemd/system,sysusers.d}} \
  "$to"/share/{man/man{1,5,7,8},doc/lossd/examples/systemd,bash-completion/completions} \
  "$to"/share/{pkgconfig,fish/vendor_completions.d} "$root"/etc/lossd/plugins
# Where Debian's zsh looks, and where one looks for what no package brought.
zsh=$to/share/zsh/site-functions
[[ $prefix != /usr ]] || zsh=$to/share/zsh/vendor-completions
install -d "$zsh"
install -m 755 "$build/lossd" "$to/sbin/lossd"
# The same program: it is the client where that is its name.
ln -sfn ../sbin/lossd "$to/bin/lossctl"
if [[ ${STRIP:-yes} = yes ]]; then strip --strip-unneeded -R .comment -R .note "$to/sbin/lossd"; fi

# Units, with this prefix in their paths.
for unit in lossd.service lossd.socket lossd-admin.socket lossd-settings.service; do
  sed "s|/usr/sbin/|$prefix/sbin/|g; s|/usr/share/|$prefix/share/|g" "systemd/$unit" \
    > "$to/lib/systemd/system/$unit"
done
install -m 644 systemd/lossd.sysusers "$to/lib/sysusers.d/lossd.conf"
install -m 644 systemd/dropins/* "$to/share/doc/lossd/examples/systemd/"
# Pages, and what they link to: programs of clients, the wire's messages, the C client's header.
for page in operations limits security functions clients protocol grpc plugins; do
  packaging/page.sh "docs/$page.md" "$prefix" ../proto/lossd.proto=lossd.proto ../clients/c/include/lossd.h=lossd.h \
    ../examples=examples > "$to/share/doc/lossd/$page.md"
done
install -m 644 proto/lossd.proto clients/c/include/lossd.h "$to/share/doc/lossd/"
install -d "$to/share/doc/lossd/examples/data"
install -m 644 examples/*.{c,py,md} "$to/share/doc/lossd/examples/"
install -d "$to/share/doc/lossd/examples/grpc"
install -m 644 examples/grpc/evaluate.* "$to/share/doc/lossd/examples/grpc/"
install -m 644 examples/data/* "$to/share/doc/lossd/examples/data/"

# Settings: all of them as comments, made from the daemon's own list.
packaging/settings.sh example "$build/lossd" "$prefix" > "$to/share/doc/lossd/examples/lossd.yaml"
[[ -e $root/etc/lossd/lossd.yaml ]] \
  || install -m 644 "$to/share/doc/lossd/examples/lossd.yaml" "$root/etc/lossd/lossd.yaml"

# Manual pages.
version=$("$build/lossd" --version | sed 's/.* //')
for page in packaging/man/*.[1-8]; do
  name=$(basename "$page") section=${page##*.}
  sed "s|@VERSION@|$version|; s|@PREFIX@|$prefix|g" "$page" \
    | { if [[ $name = lossd.yaml.5 ]]; then
          sed -e "/^@SETTINGS@/{
            r $(packaging/settings.sh man "$build/lossd" "$prefix" > "$to/.settings"; echo "$to/.settings")
            d
          }"
        else cat; fi; } > "$to/share/man/man$section/$name"
done
rm -f "$to/.settings"

# Completions, which the program prints itself, under either name.
for program in "$to/sbin/lossd" "$to/bin/lossctl"; do
  name=$(basename "$program")
  "$program" --generate-completion-script bash \
    | sed '1{/^#!/d}' > "$to/share/bash-completion/completions/$name"
  "$program" --generate-completion-script zsh > "$zsh/_$name"
  "$program" --generate-completion-script fish > "$to/share/fish/vendor_completions.d/$name.fish"
done

# What a plugin is made with: headers, the Swift kit as a package of its own, examples.
install -d "$to"/include/lossd/detail "$to"/share/{lossd/swift,doc/lossd-dev/examples}
install -m 644 Sources/CLossdPlugin/include/lossd/*.{h,hpp} "$to/include/lossd/"
install -m 644 Sources/CLossdPlugin/include/lossd/detail/*.hpp "$to/include/lossd/detail/"
cp -RL --no-preserve=mode sdk/share/lossd/swift/. "$to/share/lossd/swift/"
find "$to/share/lossd/swift" -mindepth 1 -name '.*' -prune -exec rm -rf {} +
chmod -R u=rwX,go=rX "$to/share/lossd/swift"
install -m 644 Plugins/Examples/{hinge,tversky}.c Plugins/Tweedie/tweedie.cpp \
  Plugins/QualityFocal/Sources/QualityFocalLoss/QualityFocalLoss.swift "$to/share/doc/lossd-dev/examples/"
headers=()
for header in plugin.h plugin.hpp math.h; do
  headers+=("../Sources/CLossdPlugin/include/lossd/$header=../../../../include/lossd/$header")
done
packaging/page.sh docs/plugins.md "$prefix" ../Plugins/Examples/hinge.c=hinge.c ../Plugins/Examples/tversky.c=tversky.c \
  ../Plugins/Tweedie=tweedie.cpp ../Plugins/QualityFocal=QualityFocalLoss.swift "${headers[@]}" \
  > "$to/share/doc/lossd-dev/examples/plugins.md"
cat > "$to/share/pkgconfig/lossd-plugin.pc" <<END
prefix=$prefix
includedir=\${prefix}/include
plugindir=\${prefix}/lib/lossd/plugins

Name: lossd-plugin
Description: C interface of lossd's plugins; plugindir is where they are loaded from
Version: $version
Cflags: -I\${includedir}
END
