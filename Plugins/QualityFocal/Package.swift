// swift-tools-version: 6.2
import PackageDescription

// Where lossd's SDK is: the prefix that lossd is installed under, or the folder sdk of a checkout.
// make sets it.
let sdk = Context.environment["LOSSD_SDK"] ?? Context.packageDirectory + "/../../sdk"

let package = Package(
  name: "quality_focal",
  products: [.library(name: "QualityFocalLoss", type: .dynamic, targets: ["QualityFocalLoss"])],
  dependencies: [.package(name: "lossd-plugin-kit", path: sdk + "/share/lossd/swift")],
  targets: [
    .target(
      name: "QualityFocalLoss",
      dependencies: [.product(name: "LossdPluginKit", package: "lossd-plugin-kit")],
      linkerSettings: [
        // Swift's runtime becomes a part of the library: the daemon has one of its own.
        .unsafeFlags([
          "-static-stdlib", "-Xlinker", "--gc-sections",
          "-Xlinker", "--version-script=" + Context.packageDirectory + "/exports.map",
        ])
      ])
  ]
)
