import CLossdPlugin
import LossdTensor

/// The C descriptor of `F`.
public func makeFunction<F: Function>(_ type: F.Type) -> UnsafePointer<lossd_function> {
  precondition(MemoryLayout<F.State>.size <= Int(LOSSD_STATE_BYTES_MAX))
  return makeFunction(
    F.declaration, stateBytes: MemoryLayout<F.State>.size, TypedFunctionBox<F>())
}

/// The C descriptor of a function whose steps are a box's. It and all it points to live until
/// `stop`.
func makeFunction(
  _ declaration: FunctionDeclaration, stateBytes: Int, _ box: FunctionBox
) -> UnsafePointer<lossd_function> {
  let memory = DescriptorMemory.shared
  let inputs = declaration.inputs.map { lossd_input($0, memory) }
  let outputs = declaration.outputs.map { lossd_output($0, memory) }
  let attributes = declaration.attributes.map { lossd_attribute($0, memory) }
  var function = lossd_function()
  function.struct_size = UInt32(MemoryLayout<lossd_function>.size)
  function.kind = UInt32(declaration.kind == .loss ? LOSSD_KIND_LOSS : LOSSD_KIND_ACTIVATION)
  function.name = memory.copy(declaration.name)
  function.summary = memory.copy(declaration.summary)
  function.inputs = memory.copy(inputs)
  function.input_count = UInt32(inputs.count)
  function.outputs = memory.copy(outputs)
  function.output_count = UInt32(outputs.count)
  function.attributes = memory.copy(attributes)
  function.attribute_count = UInt32(attributes.count)
  function.accumulators = memory.copy(declaration.accumulators.map { memory.copy($0.name) })
  function.accumulator_count = UInt32(declaration.accumulators.count)
  function.accumulator_kinds = memory.copy(declaration.accumulators.map(\.kind.rawValue))
  function.values = memory.copy(declaration.values.map { memory.copy($0) })
  function.value_count = UInt32(declaration.values.count)
  function.state_bytes = UInt32(stateBytes)
  function.context = memory.keep(box)
  function.plan = planCallback
  function.run = runCallback
  function.finish = finishCallback
  return memory.copy(function)
}

/// The C descriptor of a plugin of these functions.
public func makePlugin(
  name: String, version: String, functions: [UnsafePointer<lossd_function>]
) -> UnsafePointer<lossd_plugin> {
  let memory = DescriptorMemory.shared
  var plugin = lossd_plugin()
  plugin.struct_size = UInt32(MemoryLayout<lossd_plugin>.size)
  plugin.abi_major = UInt16(LOSSD_ABI_MAJOR)
  plugin.abi_minor = UInt16(LOSSD_ABI_MINOR)
  plugin.name = memory.copy(name)
  plugin.version = memory.copy(version)
  plugin.functions = memory.copy(functions.map { Optional($0) })
  plugin.function_count = UInt32(functions.count)
  // All that this copy of the kit made, so that a library that is loaded again and again leaves
  // nothing behind.
  plugin.stop = { DescriptorMemory.shared.free() }
  return memory.copy(plugin)
}
