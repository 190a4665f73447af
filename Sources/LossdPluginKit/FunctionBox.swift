import CLossdPlugin
import LossdTensor

/// Turns a `Function` into a `lossd_function`. C callbacks cannot be generic, so the descriptor's
/// context is a box whose overrides know the type: one virtual call a step.
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

/// The C descriptor of `F`. It and all it points to are made once and live as long as the library.
public func makeFunction<F: Function>(_ type: F.Type) -> UnsafePointer<lossd_function> {
  let declaration = F.declaration
  precondition(MemoryLayout<F.State>.size <= Int(LOSSD_STATE_BYTES_MAX))
  let function = UnsafeMutablePointer<lossd_function>.allocate(capacity: 1)
  function.initialize(to: lossd_function())
  function.pointee.struct_size = UInt32(MemoryLayout<lossd_function>.size)
  function.pointee.kind = UInt32(
    declaration.kind == .loss ? LOSSD_KIND_LOSS : LOSSD_KIND_ACTIVATION)
  function.pointee.name = immortal(declaration.name)
  function.pointee.summary = immortal(declaration.summary)
  function.pointee.inputs = immortal(declaration.inputs.map(lossd_input.init))
  function.pointee.input_count = UInt32(declaration.inputs.count)
  function.pointee.outputs = immortal(declaration.outputs.map(lossd_output.init))
  function.pointee.output_count = UInt32(declaration.outputs.count)
  function.pointee.attributes = immortal(declaration.attributes.map(lossd_attribute.init))
  function.pointee.attribute_count = UInt32(declaration.attributes.count)
  function.pointee.accumulators = immortal(declaration.accumulators.map { immortal($0) })
  function.pointee.accumulator_count = UInt32(declaration.accumulators.count)
  function.pointee.values = immortal(declaration.values.map { immortal($0) })
  function.pointee.value_count = UInt32(declaration.values.count)
  function.pointee.state_bytes = UInt32(MemoryLayout<F.State>.size)
  // Retained once, for ever: the descriptor must outlive every call and is never freed.
  function.pointee.context = Unmanaged.passRetained(TypedFunctionBox<F>()).toOpaque()
  function.pointee.plan = planCallback
  function.pointee.run = runCallback
  function.pointee.finish = finishCallback
  return UnsafePointer(function)
}

/// The C descriptor of a plugin of these functions.
public func makePlugin(
  name: String, version: String, functions: [UnsafePointer<lossd_function>]
) -> UnsafePointer<lossd_plugin> {
  let plugin = UnsafeMutablePointer<lossd_plugin>.allocate(capacity: 1)
  plugin.initialize(to: lossd_plugin())
  plugin.pointee.struct_size = UInt32(MemoryLayout<lossd_plugin>.size)
  plugin.pointee.abi_major = UInt16(LOSSD_ABI_MAJOR)
  plugin.pointee.abi_minor = UInt16(LOSSD_ABI_MINOR)
  plugin.pointee.name = immortal(name)
  plugin.pointee.version = immortal(version)
  plugin.pointee.functions = immortal(functions.map { Optional($0) })
  plugin.pointee.function_count = UInt32(functions.count)
  return UnsafePointer(plugin)
}

// MARK: - Callbacks

private func box(_ function: UnsafePointer<lossd_function>) -> FunctionBox {
  Unmanaged<FunctionBox>.fromOpaque(function.pointee.context).takeUnretainedValue()
}

private let planCallback:
  @convention(c) (
    UnsafePointer<lossd_call>?, UnsafeMutablePointer<lossd_plan>?,
    UnsafeMutablePointer<lossd_error>?
  ) -> Int32 = { call, plan, error in
    guard let call, let plan, let error else { return LOSSD_INTERNAL }
    var face = Plan(raw: plan)
    do throws(StatusError) {
      try box(call.pointee.function).plan(Call(raw: call), &face)
      return LOSSD_OK
    } catch let failure {
      return report(failure, error)
    }
  }

private let runCallback:
  @convention(c) (
    UnsafePointer<lossd_call>?, UnsafePointer<lossd_chunk>?, UnsafeMutablePointer<lossd_error>?
  ) -> Int32 = { call, chunk, error in
    guard let call, let chunk, let error else { return LOSSD_INTERNAL }
    do throws(StatusError) {
      try box(call.pointee.function).run(Call(raw: call), Chunk(raw: chunk))
      return LOSSD_OK
    } catch let failure {
      return report(failure, error)
    }
  }

private let finishCallback:
  @convention(c) (
    UnsafePointer<lossd_function>?, UnsafePointer<lossd_value>?, UnsafePointer<Double>?,
    UnsafeMutablePointer<Double>?, UnsafeMutablePointer<UInt64>?,
    UnsafeMutablePointer<lossd_error>?
  ) -> Int32 = { function, attributes, sums, values, present, error in
    guard let function, let attributes, let sums, let values, let present, let error else {
      return LOSSD_INTERNAL
    }
    do throws(StatusError) {
      for index in 0..<Int(function.pointee.value_count) {
        let value = try box(function).finish(Attributes(raw: attributes), sums, value: index)
        guard let value else { continue }
        values[index] = value
        present.pointee |= 1 << UInt64(index)
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

// MARK: - C copies of declarations

/// Copies that live for ever, as everything reachable from a descriptor has to.
private func immortal(_ text: String) -> UnsafePointer<CChar>? {
  let bytes = Array(text.utf8CString)
  return immortal(bytes)
}

private func immortal<T>(_ elements: [T]) -> UnsafePointer<T>? {
  if elements.isEmpty { return nil }
  let copy = UnsafeMutablePointer<T>.allocate(capacity: elements.count)
  copy.initialize(from: elements, count: elements.count)
  return UnsafePointer(copy)
}

extension lossd_input {
  fileprivate init(_ declaration: InputDeclaration) {
    self.init()
    name = immortal(declaration.name)
    help = immortal(declaration.help)
    data_types = declaration.dataTypes.reduce(0) { $0 | 1 << $1.rawValue }
    if declaration.isRequired { flags |= UInt32(LOSSD_INPUT_REQUIRED) }
    if declaration.isKept { flags |= UInt32(LOSSD_INPUT_KEPT) }
  }
}

extension lossd_output {
  fileprivate init(_ declaration: OutputDeclaration) {
    self.init()
    name = immortal(declaration.name)
    help = immortal(declaration.help)
    if declaration.isDefault { flags |= UInt32(LOSSD_OUTPUT_DEFAULT) }
    if declaration.isUnimplemented { flags |= UInt32(LOSSD_OUTPUT_UNIMPLEMENTED) }
    may_overwrite = Int32(declaration.mayOverwrite ?? -1)
  }
}

extension lossd_attribute {
  fileprivate init(_ declaration: AttributeDeclaration) {
    self.init()
    name = immortal(declaration.name)
    help = immortal(declaration.help)
    type = declaration.kind.rawValue
    if declaration.isRequired { flags |= UInt32(LOSSD_ATTRIBUTE_REQUIRED) }
    default_value = lossd_value(immortal: declaration.defaultValue)
    minimum = lossd_value(immortal: declaration.minimum)
    maximum = lossd_value(immortal: declaration.maximum)
    if !declaration.choices.isEmpty {
      choices = immortal(declaration.choices.map { immortal($0) } + [nil])
    }
  }
}

extension lossd_value {
  fileprivate init(immortal value: AttributeValue?) {
    self.init()
    switch value {
    case nil: break
    case .bool(let bool):
      kind = UInt32(LOSSD_VALUE_BOOL)
      self.as.integer = bool ? 1 : 0
    case .int(let integer):
      kind = UInt32(LOSSD_VALUE_INT)
      self.as.integer = integer
    case .float(let floating):
      kind = UInt32(LOSSD_VALUE_FLOAT)
      self.as.floating = floating
    case .string(let text):
      kind = UInt32(LOSSD_VALUE_STRING)
      length = UInt32(text.utf8.count)
      self.as.string = LossdPluginKit.immortal(text)
    }
  }
}
