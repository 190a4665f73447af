/// The files of a new plugin. Each language's are in a file of their own.
struct PluginTemplate {
  struct File {
    var name: String
    var text: String
  }

  var name: String
  var language: Plugin.New.Language
  var kind: Plugin.New.Kind
  /// The SDK's prefix, absolute.
  var sdk: String

  var files: [File] {
    let common = [
      File(name: "Makefile", text: makefile), File(name: "exports.map", text: exports),
      File(name: ".gitignore", text: ".build/\n*.so\n"),
    ]
    switch language {
    case .swift:
      return [
        File(name: "Sources/\(type)/\(type).swift", text: swiftSource),
        File(name: "Package.swift", text: swiftPackage),
      ] + common
    case .c: return [File(name: "\(name).c", text: cSource)] + common
    case .cpp: return [File(name: "\(name).cpp", text: cppSource)] + common
    }
  }

  /// The loss as a type's name, `my_loss` as MyLoss; ends in Loss, so that it is no word of a
  /// language.
  var type: String {
    let parts = name.split(separator: "_").map { $0.prefix(1).uppercased() + $0.dropFirst() }
    let joined = parts.joined()
    return joined.hasSuffix("Loss") ? joined : joined + "Loss"
  }

  private var exports: String {
    """
    /* Only the entry is visible: all else is this library's own, and it can be unloaded. */
    {
      global: lossd_plugin_entry;
      local: *;
    };

    """
  }

  private var makefile: String {
    """
    # Builds \(name).so, a plugin of lossd: `make`, `make check`, `make install`.
    # `make CPU=avx2` or `make CPU=any` builds for other processors than this machine's.
    NAME := \(name)
    LOSSD_SDK ?= \(sdk)
    FOLDER ?= /etc/lossd/plugins

    ifeq ($(wildcard $(LOSSD_SDK)/include/lossd/plugin.h),)
    $(error no include/lossd/plugin.h under $(LOSSD_SDK): install lossd-dev, or set LOSSD_SDK to the prefix that \
    lossd is installed under or to the folder sdk of a checkout)
    endif
    LOSSCTL ?= $(or $(wildcard $(LOSSD_SDK)/bin/lossctl),lossctl)
    HAS := $(shell grep -m1 ^flags /proc/cpuinfo)
    CPU ?= $(if $(filter avx512vl,$(HAS)),avx512,$(if $(filter fma,$(HAS)),avx2,any))
    CPU_avx2 := -mavx2 -mfma
    CPU_avx512 := $(CPU_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl

    \(rules)
    check: $(NAME).so
    \t$(LOSSCTL) plugin check $(NAME).so --gradients

    install: $(NAME).so
    \t$(LOSSCTL) plugin install $(NAME).so --folder $(FOLDER)

    clean:
    \trm -rf .build $(NAME).so

    .PHONY: check install clean

    """
  }

  private var rules: String {
    switch language {
    case .swift:
      """
      export LOSSD_SDK
      $(NAME).so: Makefile Package.swift exports.map $(shell find Sources -name '*.swift')
      \tswift build -c release --scratch-path .build/$(CPU) $(CPU_$(CPU):%=-Xcc %)
      \tstrip -o .build/$@ .build/$(CPU)/release/lib\(type).so
      \tmv .build/$@ $@

      """
    case .c:
      """
      CFLAGS ?= -O3
      $(NAME).so: $(NAME).c Makefile exports.map
      \t$(CC) $(CFLAGS) -std=c99 -pedantic -Wall -Wextra -fno-math-errno -fno-trapping-math $(CPU_$(CPU)) -fPIC \\
      \t  -fvisibility=hidden -I $(LOSSD_SDK)/include -shared -Wl,--version-script=exports.map -o .$@ $< -lm
      \tmv .$@ $@

      """
    case .cpp:
      """
      CXXFLAGS ?= -O3
      # GCC moves a choice by an attribute out of the loop only when the loop is shorter than this.
      UNSWITCH := $(if $(findstring clang,$(shell $(CXX) --version)),,--param=max-unswitch-insns=2000)
      $(NAME).so: $(NAME).cpp Makefile exports.map
      \t$(CXX) $(CXXFLAGS) -std=c++17 -pedantic -Wall -Wextra -fno-math-errno -fno-trapping-math $(UNSWITCH) $(CPU_$(CPU)) \\
      \t  -fPIC -fvisibility=hidden -I $(LOSSD_SDK)/include -shared -Wl,--version-script=exports.map -o .$@ $<
      \tmv .$@ $@

      """
    }
  }
}
