// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "lossd",
  targets: [
    .systemLibrary(name: "CUV", pkgConfig: "libuv", providers: [.apt(["libuv1-dev"])]),
    .systemLibrary(
      name: "CProtobufC", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
    .target(name: "CLinux"),
    .target(name: "CLossdProto", dependencies: ["CProtobufC"]),
    .target(name: "CLossdPlugin"),
    .target(name: "LossdTensor"),
    .target(name: "LossdSocket", dependencies: ["CLinux"]),
    .target(name: "LossdWire", dependencies: ["CLossdProto", "CProtobufC", "LossdTensor"]),
    .target(name: "LossdLoop", dependencies: ["CUV"]),
    .target(name: "LossdPluginKit", dependencies: ["CLossdPlugin", "LossdTensor"]),
    .target(name: "LossdEngine", dependencies: ["CLossdPlugin", "LossdPluginKit", "LossdTensor"]),
    .target(
      name: "LossdCatalogue", dependencies: ["CLossdPlugin", "LossdPluginKit", "LossdTensor"],
      path: "Plugins/Catalogue"),
    .testTarget(
      name: "LossdCatalogueTests", dependencies: ["LossdCatalogue", "LossdEngine", "LossdTensor"]),
    .testTarget(
      name: "LossdEngineTests", dependencies: ["LossdEngine", "LossdPluginKit", "LossdTensor"]),
    .testTarget(name: "LossdTensorTests", dependencies: ["LossdTensor"]),
    .testTarget(name: "LossdWireTests", dependencies: ["LossdWire", "LossdTensor"]),
  ],
  swiftLanguageModes: [.v6]
)
