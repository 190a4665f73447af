import CLossdPlugin
import LossdTensor

/// The four steps of a function behind one class, since C callbacks cannot be generic: the
/// descriptor's context is a box, and its overrides know the type. One virtual call a step.
class FunctionBox {
  func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) {}
  func run(_ call: Call, _ chunk: Chunk) throws(StatusError) {}
  func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value: Int
  ) throws(StatusError) -> Double? { nil }
}

final class TypedFunctionBox<F: Function>: FunctionBox {
  override func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) {
    let state = try F.plan(call, &plan)
    call.raw.pointee.state.storeBytes(of: state, as: F.State.self)
  }

  override func run(_ call: Call, _ chunk: Chunk) throws(StatusError) {
    let state = UnsafeRawPointer(call.raw.pointee.state).load(as: F.State.self)
    try F.run(call, state, chunk)
  }

  override func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value: Int
  ) throws(StatusError) -> Double? { try F.finish(attributes, sums, value: value) }
}

/// Steps made in the plugin's own module, where the compiler knows the loss and specialises the
/// loops for it.
final class LossBox: FunctionBox {
  private let steps: LossSteps

  init(_ steps: LossSteps) { self.steps = steps }

  override func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) {
    try steps.plan(call, &plan)
  }

  override func run(_ call: Call, _ chunk: Chunk) throws(StatusError) {
    try steps.run(call, chunk)
  }

  override func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value: Int
  ) throws(StatusError) -> Double? {
    LossReduction(attributes, steps.attributeCount).value(sums)
  }
}

/// What a loss of the kit does; `reduction` is the attribute after its own.
@usableFromInline struct LossSteps {
  let attributeCount: Int
  let plan: (Call, inout Plan) throws(StatusError) -> Void
  let run: (Call, Chunk) throws(StatusError) -> Void

  @usableFromInline init(
    attributeCount: Int, plan: @escaping (Call, inout Plan) throws(StatusError) -> Void,
    run: @escaping (Call, Chunk) throws(StatusError) -> Void
  ) {
    self.attributeCount = attributeCount
    self.plan = plan
    self.run = run
  }
}

// MARK: - Callbacks

/// A box lives as long as its descriptor.
@inline(__always)
private func withBox<Result>(
  _ function: UnsafePointer<lossd_function>,
  _ body: (FunctionBox) throws(StatusError) -> Result
) throws(StatusError) -> Result {
  try Unretained<FunctionBox>(opaque: function.pointee.context).with(body)
}

let planCallback:
  @convention(c) (
    UnsafePointer<lossd_call>?, UnsafeMutablePointer<lossd_plan>?,
    UnsafeMutablePointer<lossd_error>?
  ) -> Int32 = { call, plan, error in
    guard let call, let plan, let error else { return LOSSD_INTERNAL }
    var face = Plan(raw: plan)
    do throws(StatusError) {
      try withBox(call.pointee.function) { (box) throws(StatusError) in
        try box.plan(Call(raw: call), &face)
      }
      return LOSSD_OK
    } catch let failure {
      return report(failure, error)
    }
  }

let runCallback:
  @convention(c) (
    UnsafePointer<lossd_call>?, UnsafePointer<lossd_chunk>?, UnsafeMutablePointer<lossd_error>?
  ) -> Int32 = { call, chunk, error in
    guard let call, let chunk, let error else { return LOSSD_INTERNAL }
    do throws(StatusError) {
      try withBox(call.pointee.function) { (box) throws(StatusError) in
        try box.run(Call(raw: call), Chunk(raw: chunk, host: call.pointee.host))
      }
      return LOSSD_OK
    } catch let failure {
      return report(failure, error)
    }
  }

let finishCallback:
  @convention(c) (
    UnsafePointer<lossd_function>?, UnsafePointer<lossd_value>?, UnsafePointer<Double>?,
    UnsafeMutablePointer<Double>?, UnsafeMutablePointer<UInt64>?,
    UnsafeMutablePointer<lossd_error>?
  ) -> Int32 = { function, attributes, sums, values, present, error in
    guard let function, let attributes, let sums, let values, let present, let error else {
      return LOSSD_INTERNAL
    }
    do throws(StatusError) {
      try withBox(function) { (box) throws(StatusError) in
        for index in 0..<Int(function.pointee.value_count) {
          let value = try box.finish(Attributes(raw: attributes), sums, value: index)
          guard let value else { continue }
          values[index] = value
          present.pointee |= 1 << UInt64(index)
        }
      }
      return LOSSD_OK
    } catch let failure {
      return report(failure, error)
    }
  }

private func report(_ failure: StatusError, _ error: UnsafeMutablePointer<lossd_error>) -> Int32 {
  withUnsafeMutableBytes(of: &error.pointee.text) { text in
    let utf8 = failure.message.utf8
    var length = min(utf8.count, text.count - 1)
    // Cut between characters: a continuation byte never starts what is kept out.
    if length < utf8.count {
      let bytes = Array(utf8)
      while length > 0 && bytes[length] & 0xC0 == 0x80 { length -= 1 }
    }
    text.copyBytes(from: utf8.prefix(length))
    text[length] = 0
  }
  return Int32(failure.code.rawValue)
}
