extension PluginTemplate {
  var swiftPackage: String {
    """
    // swift-tools-version: 6.2
    import PackageDescription

    // Where lossd's SDK is: the prefix that lossd is installed under, or the folder sdk of a checkout. make sets it.
    let sdk = Context.environment["LOSSD_SDK"] ?? "\(sdk)"

    let package = Package(
      name: "\(name)",
      products: [.library(name: "\(type)", type: .dynamic, targets: ["\(type)"])],
      dependencies: [.package(name: "lossd-plugin-kit", path: sdk + "/share/lossd/swift")],
      targets: [
        .target(
          name: "\(type)",
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

    """
  }

  var swiftSource: String { kind == .elementwise ? swiftElementwise : swiftRowwise }

  private var swiftElementwise: String {
    """
    // \(name): a loss of lossd, elementwise: Huber's, to be changed into another.
    import LossdPluginKit

    struct \(type): ElementwiseLoss {
      static let name = "\(name)"
      static let summary = "(x - y)^2 / 2 within delta, delta (|x - y| - delta / 2) beyond"
      static let attributes = [
        AttributeDeclaration(
          "delta", .float, default: .float(1), minimum: .float(0), help: "where it turns linear")
      ]
      let delta: Double

      init(_ attributes: Attributes) { delta = attributes.float(0) }

      /// The loss of an input x and a target y.
      @inline(__always) func loss<T: LossScalar>(_ x: T, _ y: T) -> T {
        let (distance, delta) = (abs(x - y), T(delta))
        return distance < delta ? distance * distance / 2 : delta * (distance - delta / 2)
      }

      /// Its derivative by x.
      @inline(__always) func slope<T: LossScalar>(_ x: T, _ y: T) -> T {
        max(min(x - y, T(delta)), -T(delta))
      }
    }

    @_cdecl("lossd_plugin_entry")
    public func entry(_ host: UnsafeRawPointer?) -> UnsafeRawPointer? {
      plugin(host, name: "\(name)", version: "1.0", [.elementwise(\(type).self)])
    }

    """
  }

  private var swiftRowwise: String {
    """
    // \(name): a loss of lossd, of a row of scores and a class: the multi-class hinge loss, to be changed into another.
    import LossdPluginKit

    struct \(type): ClassLoss {
      static let name = "\(name)"
      static let summary = "mean over the classes j but the target of max(0, margin - x[target] + x[j])"
      static let attributes = [
        AttributeDeclaration(
          "margin", .float, default: .float(1), help: "by how much the target's score has to lead")
      ]
      let margin: Double

      init(_ attributes: Attributes) { margin = attributes.float(0) }

      /// The loss of a row x.
      func loss<T: LossScalar>(_ x: Row<T>, _ target: Int) -> Double {
        let edge = T(margin) - x[target]
        return (x.sum { max(edge + $0, 0) } - Swift.max(margin, 0)) / Double(x.count)
      }

      /// Its derivative by each element of x.
      func slope<T: LossScalar>(_ x: Row<T>, _ target: Int, _ slopes: MutableRow<T>) {
        let (edge, part) = (T(margin) - x[target], 1 / T(x.count))
        slopes.set(from: x) { edge + $0 > 0 ? part : 0 }
        let others = x.sum { edge + $0 > 0 ? part : 0 } - Double(margin > 0 ? part : 0)
        slopes[target] = -T(others)
      }
    }

    @_cdecl("lossd_plugin_entry")
    public func entry(_ host: UnsafeRawPointer?) -> UnsafeRawPointer? {
      plugin(host, name: "\(name)", version: "1.0", [.rowwise(\(type).self)])
    }

    """
  }
}
