// swift-tools-version: 6.2
// What a plugin in Swift is made with, as a package of its own that needs no other:
//
//     .package(name: "lossd-plugin-kit", path: "PREFIX/share/lossd/swift")
import PackageDescription

let package = Package(
  name: "lossd-plugin-kit",
  products: [.library(name: "LossdPluginKit", targets: ["LossdPluginKit"])],
  targets: [
    .target(name: "CLossdPlugin"),
    .target(name: "LossdTensor"),
    .target(name: "LossdPluginKit", dependencies: ["CLossdPlugin", "LossdTensor"]),
  ],
  swiftLanguageModes: [.v6]
)
