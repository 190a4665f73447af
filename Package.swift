// swift-tools-version: 6.2
import PackageDescription

/// What each build of the kernels may use beyond the processor's baseline.
struct KernelFeatures {
  var name: String
  var flags: [String]
}

/// What tensors hold: the name's ending, and what tells the sources.
struct KernelElement {
  var name: String
  var define: String?
  var isNarrow = false
}

/// The fuzzers are built when scripts/fuzz.sh says where libFuzzer is.
let fuzzer = Context.environment["LOSSD_FUZZ"]

/// The widest kernels that are built: avx512, which a program for others needs, or avx2 or
/// baseline, where LOSSD_WIDEST_KERNELS says so: each build of the kernels takes a minute or two.
let widest = Context.environment["LOSSD_WIDEST_KERNELS"] ?? (fuzzer == nil ? "avx512" : "avx2")
guard ["avx512", "avx2", "baseline"].contains(widest) else {
  fatalError("LOSSD_WIDEST_KERNELS is \(widest), expected avx512, avx2 or baseline")
}
let hasAVX512 = widest == "avx512"
let hasAVX2 = widest != "baseline"

let avx2 = ["avx2", "fma", "f16c", "bmi2"]
let avx512 = avx2 + ["avx512f", "avx512bw", "avx512dq", "avx512vl"]
#if arch(x86_64)
  let kernelFeatures =
    [KernelFeatures(name: "Baseline", flags: [])]
    + (hasAVX2 ? [KernelFeatures(name: "AVX2", flags: avx2)] : [])
    + (hasAVX512 ? [KernelFeatures(name: "AVX512", flags: avx512)] : [])
#else
  let kernelFeatures = [KernelFeatures(name: "Baseline", flags: [])]
#endif
let kernelElements = [
  KernelElement(name: "Float"), KernelElement(name: "Double", define: "LOSSD_DOUBLE"),
  KernelElement(name: "Half", define: "LOSSD_HALF", isNarrow: true),
  KernelElement(name: "BFloat", define: "LOSSD_BFLOAT", isNarrow: true),
]
/// How far the kernels are optimised, in debug builds too, whose tests run over millions of
/// elements. Not at all where nobody waits for a kernel but for its build, most of the time
/// of one: where LOSSD_QUICK is set.
let kernelLevel =
  Context.environment["LOSSD_QUICK"] == nil ? "-Ounchecked" : "-Onone"

let kernelNames = kernelFeatures.flatMap { features in
  kernelElements.map { "LossdKernels" + features.name + $0.name }
}

/// The kernels' source built once for each instruction set and type: the folder itself for the
/// first, a link to it for each of the others.
let kernels = kernelFeatures.flatMap { features in
  kernelElements.map { element in
    let machine = features.flags.flatMap { ["-Xcc", "-m" + $0] }
    let defines = [element.define, element.isNarrow ? "LOSSD_NARROW" : nil].compactMap(\.self)
    let isFirst = features.flags.isEmpty && element.define == nil
    return Target.target(
      name: "LossdKernels" + features.name + element.name,
      dependencies: ["CLossdLanes", "LossdKernelTable"],
      path: "Sources/LossdKernels/" + (isFirst ? "Core" : "Core" + features.name + element.name),
      swiftSettings: defines.map { .define($0) }
        + [.unsafeFlags([kernelLevel] + machine + defines.flatMap { ["-Xcc", "-D" + $0] })])
  }
}

/// The request path. What Swift checks at run time in debug builds, where the tests run, costs a
/// quarter of a small call: whether two accesses to one property overlap, which is a mistake of
/// ours and never of a client. The fuzzers look for mistakes of ours.
let hot: [SwiftSetting] =
  fuzzer != nil
  ? []
  : [.unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))]

/// What runs once in a while: the program is as small as its package's bound wants.
let cold: [SwiftSetting] = [.unsafeFlags(["-Osize"], .when(configuration: .release))]

let package = Package(
  name: "lossd",
  products: [
    .executable(name: "lossd", targets: ["lossd"])
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
    // Without its traits, of which JSON, there unless one says otherwise, brings all of Foundation
    // with ICU: 34 MB.
    .package(url: "https://github.com/apple/swift-configuration.git", from: "1.4.0", traits: []),
    .package(url: "https://github.com/apple/swift-log.git", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-system.git", from: "1.8.0"),
  ],
  targets: kernels + [
    .systemLibrary(name: "CUV", pkgConfig: "libuv", providers: [.apt(["libuv1-dev"])]),
    .systemLibrary(
      name: "CProtobufC", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
    .systemLibrary(
      name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),
    .systemLibrary(name: "CDigest", pkgConfig: "libmd", providers: [.apt(["libmd-dev"])]),
    .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(
      name: "CNGHTTP2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .target(name: "CLinux"),
    .target(name: "CLossdProto", dependencies: ["CProtobufC"]),
    .target(name: "CLossdPlugin"),
    .target(name: "CPluginCalls", dependencies: ["CLossdPlugin"]),
    .target(
      name: "LossdTensor",
      swiftSettings: hot),
    .target(name: "LossdThreads"),
    .target(
      name: "LossdSocket", dependencies: ["CLinux"],
      swiftSettings: hot),
    .target(
      name: "LossdSystemd", dependencies: ["LossdSocket", "LossdThreads"], swiftSettings: cold),
    .target(name: "LossdFiles", dependencies: ["LossdTensor"], swiftSettings: cold),
    .target(
      name: "LossdYAML", dependencies: ["CYAML", "LossdTensor"], swiftSettings: cold),
    .target(
      name: "LossdWire", dependencies: ["CLossdProto", "CProtobufC", "LossdTensor"],
      swiftSettings: hot),
    .target(
      name: "LossdHTTP", dependencies: ["CNGHTTP2", "CZlib", "LossdTensor"],
      swiftSettings: hot),
    .target(name: "LossdKernelTable", path: "Sources/LossdKernels/Table"),
    .target(name: "CLossdLanes", path: "Sources/LossdKernels/Lanes"),
    .target(
      name: "LossdKernels",
      dependencies: ["CLinux", "LossdKernelTable"]
        + kernelNames.map { .target(name: $0) },
      path: "Sources/LossdKernels/Choice",
      swiftSettings: (hasAVX2 ? [] : [.define("LOSSD_WITHOUT_AVX2")])
        + (hasAVX512 ? [] : [.define("LOSSD_WITHOUT_AVX512")])),
    .target(
      name: "LossdLoop", dependencies: ["CUV"],
      swiftSettings: hot),
    .target(
      name: "LossdPluginKit", dependencies: ["CLossdPlugin", "LossdTensor"],
      swiftSettings: hot),
    .target(
      name: "LossdEngine",
      dependencies: ["CLinux", "CLossdPlugin", "CPluginCalls", "LossdTensor"],
      swiftSettings: hot),
    .target(
      name: "LossdCatalogue",
      dependencies: [
        "CLossdPlugin", "LossdKernelTable", "LossdKernels", "LossdPluginKit", "LossdTensor",
      ],
      path: "Plugins/Catalogue"),
    .target(
      name: "LossdPluginHost",
      dependencies: [
        "CDigest", "CLinux", "CLossdPlugin", "CPluginCalls", "CSeccomp", "LossdEngine",
        "LossdPluginKit", "LossdTensor", "LossdThreads",
      ],
      swiftSettings: cold),
    .target(
      name: "LossdServer",
      dependencies: [
        "CLinux", "CLossdPlugin", "LossdEngine", "LossdHTTP", "LossdLoop", "LossdPluginHost",
        "LossdSocket", "LossdTensor", "LossdThreads", "LossdWire",
      ],
      exclude: ["Calls", "Channels", "Limits", "Services", "Sessions"].map { $0 + "/README.md" },
      swiftSettings: hot),
    .target(
      name: "LossdClient",
      dependencies: ["LossdSocket", "LossdTensor", "LossdThreads", "LossdWire"],
      swiftSettings: cold),
    .executableTarget(
      name: "lossd",
      dependencies: [
        "CLinux", "LossdCatalogue", "LossdEngine", "LossdLoop", "LossdPluginHost", "LossdServer",
        "LossdSocket", "LossdSystemd", "LossdTensor", "LossdThreads", "LossdWire", "LossdYAML",
        "lossctl",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Configuration", package: "swift-configuration"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      swiftSettings: cold,
      // Plugins get a table of functions and no symbols. Functions of the same code, whose
      // addresses nobody takes, are one.
      linkerSettings: [
        .unsafeFlags(["-Xlinker", "--no-export-dynamic", "-Xlinker", "--icf=safe"])
      ]),
    // Within the program lossd: one program under two names is little more than half of two.
    .target(
      name: "lossctl",
      dependencies: [
        "LossdCatalogue", "LossdClient", "LossdEngine", "LossdFiles", "LossdPluginHost",
        "LossdPluginKit",
        "LossdServer", "LossdSocket", "LossdTensor", "LossdThreads", "LossdWire",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: cold),
    .executableTarget(
      name: "FunctionBenchmark",
      dependencies: [
        "LossdCatalogue", "LossdEngine", "LossdKernelTable", "LossdKernels", "LossdPluginHost",
        "LossdTensor",
      ],
      path: "Benchmarks/Functions"),
    .executableTarget(
      name: "ExhaustiveKernelTest", dependencies: ["LossdKernelTable", "LossdKernels"],
      path: "Tests/Exhaustive"),
    .testTarget(
      name: "GoldenTests",
      dependencies: ["LossdCatalogue", "LossdEngine", "LossdPluginKit", "LossdTensor"]),
    .testTarget(
      name: "LossdCatalogueTests", dependencies: ["LossdCatalogue", "LossdEngine", "LossdTensor"]),
    .testTarget(
      name: "LossdEngineTests",
      dependencies: ["CLossdPlugin", "LossdEngine", "LossdPluginKit", "LossdTensor"]),
    .testTarget(
      name: "LossdFilesTests", dependencies: ["LossdFiles", "LossdTensor"], exclude: ["Golden"]),
    // Optimised: millions of results are compared with the truth, in every build of every type.
    .testTarget(
      name: "LossdKernelsTests", dependencies: ["LossdKernelTable", "LossdKernels", "LossdTensor"],
      swiftSettings: [.unsafeFlags(["-O"])]),
    .testTarget(
      name: "LossdPluginHostTests",
      dependencies: [
        "CLinux", "CLossdPlugin", "LossdCatalogue", "LossdEngine", "LossdPluginHost", "LossdTensor",
      ]),
    .testTarget(
      name: "LossdClientTests", dependencies: ["LossdClient", "LossdTensor", "LossdWire"]),
    .testTarget(name: "LossdHTTPTests", dependencies: ["LossdHTTP", "LossdTensor"]),
    .testTarget(name: "LossdLoopTests", dependencies: ["LossdLoop", "LossdThreads"]),
    .testTarget(name: "LossdSocketTests", dependencies: ["LossdSocket"]),
    .testTarget(
      name: "lossctlTests", dependencies: ["LossdFiles", "LossdTensor", "LossdWire", "lossctl"]),
    .testTarget(
      name: "LossdServerTests",
      dependencies: [
        "CLossdPlugin", "LossdCatalogue", "LossdEngine", "LossdHTTP", "LossdLoop",
        "LossdPluginHost", "LossdPluginKit", "LossdServer", "LossdSocket", "LossdTensor",
        "LossdThreads", "LossdWire",
      ]),
    .testTarget(name: "LossdSystemdTests", dependencies: ["LossdSystemd"]),
    .testTarget(name: "LossdTensorTests", dependencies: ["LossdTensor"]),
    .testTarget(name: "LossdWireTests", dependencies: ["LossdWire", "LossdTensor"]),
    .testTarget(name: "LossdYAMLTests", dependencies: ["LossdYAML"]),
  ],
  swiftLanguageModes: [.v6], cxxLanguageStandard: .cxx17
)

/// Each folder of Fuzz/Targets is a program, and what the program looks into.
let fuzzed: [(name: String, dependencies: [Target.Dependency])] = [
  ("Frames", ["LossdWire", "LossdTensor"]),
  ("Messages", ["LossdWire", "LossdTensor"]),
  ("HTTP2", ["LossdHTTP", "LossdTensor"]),
  ("Splits", ["LossdWire", "LossdTensor"]),
  ("Requests", ["FuzzEvaluation", "LossdEngine", "LossdWire", "LossdTensor"]),
  ("Plans", ["CLossdPlugin", "FuzzEvaluation", "LossdEngine", "LossdTensor"]),
  ("Files", ["LossdFiles", "LossdTensor"]),
  (
    "Workers",
    [
      "CLinux", "CLossdPlugin", "LossdCatalogue", "LossdEngine", "LossdPluginHost", "LossdTensor",
    ]
  ),
  ("Libraries", ["LossdPluginHost", "LossdTensor"]),
  (
    "Settings",
    [
      "LossdPluginHost", "LossdServer", "LossdSocket", "LossdTensor", "LossdThreads", "LossdYAML",
      .product(name: "Configuration", package: "swift-configuration"),
      .product(name: "Logging", package: "swift-log"),
      .product(name: "SystemPackage", package: "swift-system"),
    ]
  ),
]

if let fuzzer {
  package.targets += [
    .target(name: "CLibFuzzer", path: "Fuzz/Driver"),
    .target(name: "FuzzSupport", dependencies: ["CLibFuzzer"], path: "Fuzz/Support"),
    .target(
      name: "FuzzEvaluation",
      dependencies: [
        "CLossdPlugin", "FuzzSupport", "LossdCatalogue", "LossdEngine", "LossdTensor",
      ],
      path: "Fuzz/Evaluation"),
  ]
  package.targets += fuzzed.map { target in
    .executableTarget(
      name: "Fuzz" + target.name, dependencies: ["FuzzSupport"] + target.dependencies,
      path: "Fuzz/Targets/" + target.name,
      linkerSettings: [.unsafeFlags([fuzzer]), .linkedLibrary("stdc++")])
  }
}
