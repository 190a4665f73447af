import LossdPluginKit
import LossdTensor

@testable import LossdEngine

/// A function that nobody runs, for calls that only wait.
enum Idle: Function {
  struct State: BitwiseCopyable {}

  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: "idle", kind: .activation, summary: "does nothing", inputs: [],
      outputs: [OutputDeclaration("output", isDefault: true, help: "scalar")], attributes: [])
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
    plan.setOutput(0, .float32, shape: UnsafeBufferPointer(start: nil, count: 0), isZeroed: true)
    return State()
  }

  static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {}

  /// So many calls of it.
  static func calls(_ count: Int) throws -> [Evaluation] {
    let registry = Registry()
    try registry.add(makePlugin(name: "test", version: "1", functions: [makeFunction(Idle.self)]))
    return registry.table.entries.first.map { entry in
      (0..<count).map { _ in Evaluation(entry) }
    } ?? []
  }
}
