// swift-tools-version: 6.2
import PackageDescription

/// For the other builds of the kernels, each of which runs only where the processor has all of it.
#if arch(x86_64)
  let avx2 = ["-Xcc", "-mavx2", "-Xcc", "-mfma", "-Xcc", "-mf16c", "-Xcc", "-mbmi2"]
  let avx512 =
    avx2 + ["f", "dq", "bw", "vl"].flatMap { ["-Xcc", "-mavx512\($0)"] }
#else
  let avx2: [String] = []
  let avx512: [String] = []
#endif

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
    .target(name: "CLinux"),
    .target(name: "CLossdProto", dependencies: ["CProtobufC"]),
    .target(name: "CLossdPlugin"),
    .target(name: "LossdTensor"),
    .target(name: "LossdSocket", dependencies: ["CLinux"]),
    .target(name: "LossdSystemd", dependencies: ["LossdSocket"]),
    .target(name: "LossdFiles", dependencies: ["LossdTensor"]),
    .target(name: "LossdWire", dependencies: ["CLossdProto", "CProtobufC", "LossdTensor"]),
    .target(name: "LossdKernelTable", path: "Sources/LossdKernels/Table"),
    .target(
      name: "LossdKernelsBaseline", dependencies: ["LossdKernelTable"],
      path: "Sources/LossdKernels/Core", swiftSettings: [.unsafeFlags(["-Ounchecked"])]),
    .target(
      name: "LossdKernelsAVX2", dependencies: ["LossdKernelTable"],
      path: "Sources/LossdKernels/CoreAVX2",
      swiftSettings: [
        .define("LOSSD_FMA"), .unsafeFlags(["-Ounchecked"] + avx2),
      ]),
    .target(
      name: "LossdKernelsAVX512", dependencies: ["LossdKernelTable"],
      path: "Sources/LossdKernels/CoreAVX512",
      swiftSettings: [
        .define("LOSSD_FMA"), .define("LOSSD_AVX512"), .unsafeFlags(["-Ounchecked"] + avx512),
      ]),
    .target(
      name: "LossdKernels",
      dependencies: [
        "CLinux", "LossdKernelTable", "LossdKernelsBaseline", "LossdKernelsAVX2",
        "LossdKernelsAVX512",
      ],
      path: "Sources/LossdKernels/Choice"),
    .target(name: "LossdLoop", dependencies: ["CUV"]),
    .target(name: "LossdPluginKit", dependencies: ["CLossdPlugin", "LossdTensor"]),
    .target(
      name: "LossdEngine",
      dependencies: ["CLinux", "CLossdPlugin", "LossdPluginKit", "LossdTensor"]),
    .target(
      name: "LossdCatalogue",
      dependencies: [
        "CLossdPlugin", "LossdKernelTable", "LossdKernels", "LossdPluginKit", "LossdTensor",
      ],
      path: "Plugins/Catalogue"),
    .target(
      name: "LossdPluginHost",
      dependencies: ["CLinux", "CLossdPlugin", "LossdEngine", "LossdTensor"]),
    .target(
      name: "LossdServer",
      dependencies: [
        "CLinux", "CLossdPlugin", "LossdEngine", "LossdLoop", "LossdPluginHost", "LossdSocket",
        "LossdTensor", "LossdWire",
      ]),
    .target(
      name: "LossdClient", dependencies: ["LossdSocket", "LossdTensor", "LossdWire"]),
    .executableTarget(
      name: "lossd",
      dependencies: [
        "CLinux", "LossdCatalogue", "LossdEngine", "LossdLoop", "LossdPluginHost", "LossdServer",
        "LossdSocket", "LossdSystemd", "LossdTensor",
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
        "LossdServer", "LossdSocket", "LossdTensor", "LossdWire",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),
    .executableTarget(
      name: "FunctionBenchmark", dependencies: ["LossdCatalogue", "LossdEngine", "LossdTensor"],
      path: "Benchmarks/Functions"),
    .testTarget(
      name: "GoldenTests",
      dependencies: ["LossdCatalogue", "LossdEngine", "LossdPluginKit", "LossdTensor"]),
    .testTarget(
      name: "LossdCatalogueTests", dependencies: ["LossdCatalogue", "LossdEngine", "LossdTensor"]),
    .testTarget(
      name: "LossdEngineTests", dependencies: ["LossdEngine", "LossdPluginKit", "LossdTensor"]),
    .testTarget(
      name: "LossdFilesTests", dependencies: ["LossdFiles", "LossdTensor"], exclude: ["Golden"]),
    .testTarget(name: "LossdKernelsTests", dependencies: ["LossdKernelTable", "LossdKernels"]),
    .testTarget(name: "LossdSystemdTests", dependencies: ["LossdSystemd"]),
    .testTarget(name: "LossdTensorTests", dependencies: ["LossdTensor"]),
    .testTarget(name: "LossdWireTests", dependencies: ["LossdWire", "LossdTensor"]),
  ],
  swiftLanguageModes: [.v6]
)
