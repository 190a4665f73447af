// swift-tools-version: 6.2
import PackageDescription

// Where lossd's SDK is: the prefix it is installed under, or `sdk` of a checkout. `make` sets it.
let sdk = Context.environment["LOSSD_SDK"] ?? "../../sdk"

let package = Package(
  name: "Focal",
  products: [.library(name: "Focal", type: .dynamic, targets: ["Focal"])],
  dependencies: [.package(name: "lossd-plugin-kit", path: sdk + "/share/lossd/swift")],
  targets: [
    .target(
      name: "Focal", dependencies: [.product(name: "LossdPluginKit", package: "lossd-plugin-kit")],
      // Only the entry is visible: Swift's runtime and all else are this library's own.
      linkerSettings: [.unsafeFlags(["-static-stdlib", "-Xlinker", "--version-script=exports.map", "-Xlinker", "--gc-sections"])])
  ]
)
