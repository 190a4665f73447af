// swift_soak: for tests alone: the mean of input^2 by way of much of Swift's runtime - protocols,
// generics, existential casts, classes, arrays, dictionaries, strings and closures, in every call.
// Loaded and unloaded a thousand times, it shows whether a library leaves something behind in the
// process or finds something of another's.
import LossdPluginKit
import LossdTensor

protocol Term {
  var value: Double { get }
}

protocol Scaled: Term {
  var scale: Double { get }
}

struct Square: Term {
  let base: Double
  var value: Double { base * base }
}

struct Product<A: Term, B: Term>: Scaled {
  let first: A
  let second: B
  let scale: Double
  var value: Double { scale * first.value * second.value }
}

final class Boxed: Term {
  let inner: any Term
  init(_ inner: any Term) { self.inner = inner }
  var value: Double { inner.value }
}

enum SoakLoss: Function {
  struct State: BitwiseCopyable {
    var count: Int
  }

  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: "swift_soak", kind: .loss, summary: "the mean of input^2, the long way round",
      inputs: [InputDeclaration("input", [.float32], isRequired: true, help: "any shape")],
      outputs: [
        OutputDeclaration("loss", isDefault: true, help: "scalar"),
        OutputDeclaration("grad.input", help: "like input"),
      ], attributes: [], accumulators: ["loss_sum", "weight_sum"], values: ["loss"])
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
    guard let input = call.input(0) else { throw StatusError(.internal, "no input") }
    guard input.rank > 0 else {
      throw StatusError(.invalidArgument, "input is \(input.description), expected a dimension")
    }
    if call.wants(0) { plan.setReducedOutput(0, .float32) }
    if call.wants(1) { plan.setOutput(1, .float32, shape: input.shape) }
    plan.setRows(input.size(0))
    plan.addPass(units: input.count, unitCost: 500)
    return State(count: input.count)
  }

  static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(0) else { return }
    let x = input.elements(as: Float.self)
    let gradient = call.output(1)?.elements(as: Float.self)
    var byName: [String: any Term] = [:]
    let makers: [(Double) -> any Term] = [
      { Square(base: $0) }, { Boxed(Square(base: $0)) },
      { Product(first: Square(base: $0), second: Square(base: 1), scale: 1) },
      { Boxed(Product(first: Square(base: 1), second: Square(base: $0), scale: 1)) },
    ]
    for index in chunk.range {
      let term = makers[index % makers.count](Double(x[index]))
      byName["term \(index % 3)"] = term
      chunk.sums[0] += value(term)
      chunk.sums[1] += 1
      gradient?[index] = 2 * x[index] / Float(state.count)
    }
    guard byName.keys.sorted().allSatisfy({ $0.hasPrefix("term ") }) else {
      throw StatusError(.internal, "the dictionary forgot its keys")
    }
  }

  /// A term's value, found out about by casts.
  private static func value(_ term: any Term) -> Double {
    if let scaled = term as? any Scaled { return scaled.value / scaled.scale }
    if let boxed = term as? Boxed { return value(boxed.inner) }
    let anything: Any = term
    return (anything as? any Term).map { $0.value } ?? .nan
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? { sums[0] / sums[1] }
}

@_cdecl("lossd_plugin_entry")
public func entry(_ host: UnsafeRawPointer?) -> UnsafeRawPointer? {
  plugin(host, name: "swift_soak", version: "1.0", [.function(SoakLoss.self)])
}
