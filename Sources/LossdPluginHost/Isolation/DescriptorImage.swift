import CLossdPlugin
import Glibc
import LossdTensor

/// A plugin's declarations as another process sent them: a `lossd_plugin` and all it points to, in
/// memory of its own that is freed with it. Its callbacks are there and refuse: the functions run
/// in the other process.
///
/// `@unchecked Sendable`: never changed after `init`.
final class DescriptorImage: @unchecked Sendable {
  private var blocks: [UnsafeMutableRawPointer] = []
  private(set) var plugin: UnsafePointer<lossd_plugin>

  /// INTERNAL when the bytes are not what `pack` writes. What they say is checked by the registry,
  /// like any plugin's descriptor.
  init(_ bytes: inout Unpacker) throws(StatusError) {
    let memory = UnsafeMutablePointer<lossd_plugin>.allocate(capacity: 1)
    memory.initialize(to: lossd_plugin())
    plugin = UnsafePointer(memory)
    blocks.append(memory)
    memory.pointee.struct_size = UInt32(MemoryLayout<lossd_plugin>.size)
    memory.pointee.abi_major = bytes.take()
    memory.pointee.abi_minor = bytes.take()
    memory.pointee.name = text(&bytes)
    memory.pointee.version = text(&bytes)
    let count = bytes.takeCount(16, max: DescriptorImage.functionsMax)
    let functions: [UnsafePointer<lossd_function>?] = (0..<count).map { _ in
      UnsafePointer(array([function(&bytes)]))
    }
    memory.pointee.functions = array(functions).map { UnsafePointer($0) }
    memory.pointee.function_count = UInt32(count)
    if bytes.isBroken {
      throw StatusError(.internal, "the plugin's process sent declarations that cannot be read")
    }
  }

  deinit { for block in blocks { block.deallocate() } }

  static let functionsMax = 1024

  // MARK: - Reading

  private func text(_ bytes: inout Unpacker) -> UnsafePointer<CChar>? {
    let data = bytes.takeData()
    let copy = UnsafeMutablePointer<CChar>.allocate(capacity: data.count + 1)
    for index in 0..<data.count { copy[index] = CChar(bitPattern: data[index]) }
    copy[data.count] = 0
    blocks.append(copy)
    return UnsafePointer(copy)
  }

  private func array<Element>(_ elements: [Element]) -> UnsafeMutablePointer<Element>? {
    if elements.isEmpty { return nil }
    let copy = UnsafeMutablePointer<Element>.allocate(capacity: elements.count)
    copy.initialize(from: elements, count: elements.count)
    blocks.append(copy)
    return copy
  }

  private func texts(_ bytes: inout Unpacker, _ max: Int32) -> [UnsafePointer<CChar>?] {
    (0..<bytes.takeCount(4, max: Int(max))).map { _ in text(&bytes) }
  }

  private func function(_ bytes: inout Unpacker) -> lossd_function {
    var function = lossd_function()
    function.struct_size = UInt32(MemoryLayout<lossd_function>.size)
    function.kind = bytes.take()
    function.name = text(&bytes)
    function.summary = text(&bytes)
    let inputs = (0..<bytes.takeCount(16, max: Int(LOSSD_INPUTS_MAX))).map { _ in
      var input = lossd_input()
      input.name = text(&bytes)
      input.help = text(&bytes)
      input.data_types = bytes.take()
      input.flags = bytes.take()
      return input
    }
    let outputs = (0..<bytes.takeCount(16, max: Int(LOSSD_OUTPUTS_MAX))).map { _ in
      var output = lossd_output()
      output.name = text(&bytes)
      output.help = text(&bytes)
      output.flags = bytes.take()
      output.may_overwrite = bytes.take()
      return output
    }
    let attributes = (0..<bytes.takeCount(16, max: Int(LOSSD_ATTRIBUTES_MAX))).map { _ in
      attribute(&bytes)
    }
    let accumulators = texts(&bytes, LOSSD_ACCUMULATORS_MAX)
    let kinds = accumulators.map { _ in bytes.take(UInt32.self) }
    let values = texts(&bytes, LOSSD_VALUES_MAX)
    function.inputs = UnsafePointer(array(inputs))
    function.input_count = UInt32(inputs.count)
    function.outputs = UnsafePointer(array(outputs))
    function.output_count = UInt32(outputs.count)
    function.attributes = UnsafePointer(array(attributes))
    function.attribute_count = UInt32(attributes.count)
    function.accumulators = array(accumulators).map { UnsafePointer($0) }
    function.accumulator_count = UInt32(accumulators.count)
    function.accumulator_kinds = UnsafePointer(array(kinds))
    function.values = array(values).map { UnsafePointer($0) }
    function.value_count = UInt32(values.count)
    function.plan = { _, _, _ in LOSSD_INTERNAL }
    function.run = { _, _, _ in LOSSD_INTERNAL }
    if bytes.take(UInt8.self) != 0 { function.merge = { _, _, _ in } }
    if bytes.take(UInt8.self) != 0 { function.finish = { _, _, _, _, _, _ in LOSSD_INTERNAL } }
    return function
  }

  private func attribute(_ bytes: inout Unpacker) -> lossd_attribute {
    var attribute = lossd_attribute()
    attribute.name = text(&bytes)
    attribute.help = text(&bytes)
    attribute.type = bytes.take()
    attribute.flags = bytes.take()
    attribute.default_value = value(&bytes)
    attribute.minimum = value(&bytes)
    attribute.maximum = value(&bytes)
    let choices = texts(&bytes, 1024)
    if !choices.isEmpty { attribute.choices = array(choices + [nil]).map { UnsafePointer($0) } }
    return attribute
  }

  private func value(_ bytes: inout Unpacker) -> lossd_value {
    var value = lossd_value()
    value.kind = bytes.take()
    switch Int32(truncatingIfNeeded: value.kind) {
    case LOSSD_VALUE_STRING:
      let data = text(&bytes)
      value.as.string = data
      value.length = UInt32(data.map { strlen($0) } ?? 0)
    case LOSSD_VALUE_FLOAT: value.as.floating = bytes.take()
    default: value.as.integer = bytes.take()
    }
    return value
  }

  // MARK: - Writing

  /// Writes the declarations of a checked plugin.
  static func pack(_ plugin: lossd_plugin, into bytes: inout Packer) {
    bytes.put(plugin.abi_major)
    bytes.put(plugin.abi_minor)
    bytes.put(plugin.name)
    bytes.put(plugin.version)
    bytes.put(plugin.function_count)
    for index in 0..<Int(plugin.function_count) {
      if let function = plugin.functions[index] { pack(function.known, &bytes) }
    }
  }

  private static func pack(_ function: lossd_function, _ bytes: inout Packer) {
    bytes.put(function.kind)
    bytes.put(function.name)
    bytes.put(function.summary)
    bytes.put(function.input_count)
    for index in 0..<Int(function.input_count) {
      let input = function.inputs[index]
      bytes.put(input.name)
      bytes.put(input.help)
      bytes.put(input.data_types)
      bytes.put(input.flags)
    }
    bytes.put(function.output_count)
    for index in 0..<Int(function.output_count) {
      let output = function.outputs[index]
      bytes.put(output.name)
      bytes.put(output.help)
      bytes.put(output.flags)
      bytes.put(output.may_overwrite)
    }
    bytes.put(function.attribute_count)
    for index in 0..<Int(function.attribute_count) { pack(function.attributes[index], &bytes) }
    bytes.put(function.accumulator_count)
    for index in 0..<Int(function.accumulator_count) { bytes.put(function.accumulators[index]) }
    for index in 0..<Int(function.accumulator_count) {
      bytes.put(function.kind(ofAccumulator: index))
    }
    bytes.put(function.value_count)
    for index in 0..<Int(function.value_count) { bytes.put(function.values[index]) }
    bytes.put(UInt8(function.merge == nil ? 0 : 1))
    bytes.put(UInt8(function.finish == nil ? 0 : 1))
  }

  private static func pack(_ attribute: lossd_attribute, _ bytes: inout Packer) {
    bytes.put(attribute.name)
    bytes.put(attribute.help)
    bytes.put(attribute.type)
    bytes.put(attribute.flags)
    for value in [attribute.default_value, attribute.minimum, attribute.maximum] {
      bytes.put(value.kind)
      switch Int32(truncatingIfNeeded: value.kind) {
      case LOSSD_VALUE_STRING: bytes.put(value.as.string)
      case LOSSD_VALUE_FLOAT: bytes.put(value.as.floating)
      default: bytes.put(value.as.integer)
      }
    }
    var choices = 0
    while attribute.choices?[choices] != nil { choices += 1 }
    bytes.put(UInt32(choices))
    for index in 0..<choices { bytes.put(attribute.choices?[index]) }
  }
}
