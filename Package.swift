// swift-tools-version: 6.2
import PackageDescription

/// The kernels' source built once more: a folder that is a link to it, and how.
func kernels(_ name: String, _ folder: String, _ flags: [String], _ defines: [String]) -> Target {
  #if arch(x86_64)
    let features = flags.flatMap { ["-Xcc", "-m" + $0] }
  #else
    let features: [String] = []
  #endif
  return .target(
    name: name, dependencies: ["LossdKernelTable"], path: "Sources/LossdKernels/" + folder,
    swiftSettings: defines.map { .define($0) } + [.unsafeFlags(["-Ounchecked"] + features)])
}

/// What runs only where the processor has all of it, and what the source then uses.
let avx2 = ["avx2", "fma", "f16c", "bmi2"]
let avx512 = avx2 + ["avx512f", "avx512bw", "avx512dq", "avx512vl"]
#if arch(x86_64)
  let fused = ["LOSSD_FMA"]
  let wide = ["LOSSD_FMA", "LOSSD_AVX512"]
#else
  let fused: [String] = []
  let wide: [String] = []
#endif

/// The request path. What Swift checks at run time in debug builds, where the tests run, costs a quarter of a
/// small call: whether two accesses to one property overlap, which is a mistake of ours and never of a client.
let hot: [SwiftSetting] = [
  .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))
]

let package = Package(
  name: "lossd",
  products: [
    .executable(name: "lossd", targets: ["lossd"])
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
    .package(
      url: "https://github.com/apple/swift-configuration.git", from: "1.4.0", traits: ["YAML"]),
    .package(url: "https://github.com/apple/swift-log.git", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-system.git", from: "1.8.0"),
    .package(url: "https://github.com/jpsim/Yams.git", from: "6.2.0"),
  ],
  targets: [
    .systemLibrary(name: "CUV", pkgConfig: "libuv", providers: [.apt(["libuv1-dev"])]),
    .systemLibrary(
      name: "CProtobufC", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
    .systemLibrary(
      name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),
    .systemLibrary(name: "CDigest", pkgConfig: "libmd", providers: [.apt(["libmd-dev"])]),
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
    .target(name: "LossdSystemd", dependencies: ["LossdSocket", "LossdThreads"]),
    .target(name: "LossdFiles", dependencies: ["LossdTensor"]),
    .target(
      name: "LossdWire", dependencies: ["CLossdProto", "CProtobufC", "LossdTensor"],
      swiftSettings: hot),
    .target(name: "LossdKernelTable", path: "Sources/LossdKernels/Table"),
    kernels("LossdKernelsBaseline", "Core", [], []),
    kernels("LossdKernelsBaselineDouble", "CoreDouble", [], ["LOSSD_DOUBLE"]),
    kernels("LossdKernelsAVX2", "CoreAVX2", avx2, fused),
    kernels("LossdKernelsAVX2Double", "CoreAVX2Double", avx2, fused + ["LOSSD_DOUBLE"]),
    kernels("LossdKernelsAVX512", "CoreAVX512", avx512, wide),
    kernels("LossdKernelsAVX512Double", "CoreAVX512Double", avx512, wide + ["LOSSD_DOUBLE"]),
    .target(
      name: "LossdKernels",
      dependencies: [
        "CLinux", "LossdKernelTable", "LossdKernelsBaseline", "LossdKernelsBaselineDouble",
        "LossdKernelsAVX2", "LossdKernelsAVX2Double", "LossdKernelsAVX512",
        "LossdKernelsAVX512Double",
      ],
      path: "Sources/LossdKernels/Choice"),
    .target(
      name: "LossdLoop", dependencies: ["CUV"],
      swiftSettings: hot),
    .target(
      name: "LossdPluginKit", dependencies: ["CLossdPlugin", "LossdTensor"],
      swiftSettings: hot),
    .target(
      name: "LossdEngine",
      dependencies: ["CLinux", "CLossdPlugin", "CPluginCalls", "LossdPluginKit", "LossdTensor"],
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
        "LossdTensor",
        "LossdThreads",
      ]),
    .target(
      name: "LossdServer",
      dependencies: [
        "CLinux", "CLossdPlugin", "LossdEngine", "LossdLoop", "LossdPluginHost", "LossdSocket",
        "LossdTensor", "LossdThreads", "LossdWire",
      ],
      swiftSettings: hot),
    .target(
      name: "LossdClient",
      dependencies: ["LossdSocket", "LossdTensor", "LossdThreads", "LossdWire"]),
    .executableTarget(
      name: "lossd",
      dependencies: [
        "CLinux", "LossdCatalogue", "LossdEngine", "LossdLoop", "LossdPluginHost", "LossdServer",
        "LossdSocket", "LossdSystemd", "LossdTensor", "LossdThreads",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Configuration", package: "swift-configuration"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "SystemPackage", package: "swift-system"), "Yams",
      ]),
    .executableTarget(
      name: "lossctl",
      dependencies: [
        "LossdCatalogue", "LossdClient", "LossdEngine", "LossdFiles", "LossdPluginHost",
        "LossdPluginKit",
        "LossdServer", "LossdSocket", "LossdTensor", "LossdThreads", "LossdWire",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),
    .executableTarget(
      name: "FunctionBenchmark",
      dependencies: ["LossdCatalogue", "LossdEngine", "LossdPluginHost", "LossdTensor"],
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
    .testTarget(name: "LossdKernelsTests", dependencies: ["LossdKernelTable", "LossdKernels"]),
    .testTarget(name: "LossdSystemdTests", dependencies: ["LossdSystemd"]),
    .testTarget(name: "LossdTensorTests", dependencies: ["LossdTensor"]),
    .testTarget(name: "LossdWireTests", dependencies: ["LossdWire", "LossdTensor"]),
  ],
  swiftLanguageModes: [.v6], cxxLanguageStandard: .cxx17
)
