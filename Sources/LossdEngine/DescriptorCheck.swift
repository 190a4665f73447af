import CLossdPlugin
import Glibc
import LossdTensor

/// Checks a plugin's descriptor before any of its functions is believed: every count, name, type
/// and flag. Throws FAILED_PRECONDITION with what is wrong.
enum DescriptorCheck {
  static func check(_ plugin: lossd_plugin) throws(StatusError) {
    guard Int(plugin.struct_size) >= MemoryLayout<lossd_plugin>.size else {
      throw refusal(
        "its lossd_plugin is \(plugin.struct_size) bytes long, shorter than version 1's")
    }
    guard plugin.abi_major == UInt16(LOSSD_ABI_MAJOR), plugin.abi_minor <= UInt16(LOSSD_ABI_MINOR)
    else {
      throw refusal(
        "it was built for plugin.h \(plugin.abi_major).\(plugin.abi_minor), this daemon has "
          + "\(LOSSD_ABI_MAJOR).\(LOSSD_ABI_MINOR)")
    }
    try name(plugin.name, "plugin")
    try text(plugin.version, "version", "it", max: nameBytesMax)
    guard plugin.function_count > 0, let functions = plugin.functions else {
      throw refusal("it has no functions")
    }
    for index in 0..<Int(plugin.function_count) {
      guard let function = functions[index] else { throw refusal("function \(index) is NULL") }
      try check(function)
    }
  }

  static func check(_ pointer: UnsafePointer<lossd_function>) throws(StatusError) {
    let function = pointer.known
    guard Int(function.struct_size) >= lossd_function.leastSize else {
      throw refusal("a lossd_function is \(function.struct_size) bytes long, too short")
    }
    try name(function.name, "function")
    let text = String(cString: function.name)
    try DescriptorCheck.text(function.summary, "summary", text)
    guard
      function.kind == UInt32(LOSSD_KIND_ACTIVATION) || function.kind == UInt32(LOSSD_KIND_LOSS)
    else { throw refusal("\(text) is of the unknown kind \(function.kind)") }
    guard function.plan != nil, function.run != nil else {
      throw refusal("\(text) lacks plan or run")
    }
    guard function.value_count == 0 || function.finish != nil else {
      throw refusal("\(text) has values and no finish")
    }
    try count(function.input_count, LOSSD_INPUTS_MAX, function.inputs != nil, "inputs", text)
    try count(function.output_count, LOSSD_OUTPUTS_MAX, function.outputs != nil, "outputs", text)
    try count(
      function.attribute_count, LOSSD_ATTRIBUTES_MAX, function.attributes != nil, "attributes", text
    )
    try count(
      function.accumulator_count, LOSSD_ACCUMULATORS_MAX, function.accumulators != nil,
      "accumulators", text)
    try kinds(function, text)
    try count(function.value_count, LOSSD_VALUES_MAX, function.values != nil, "values", text)
    guard function.state_bytes <= UInt32(LOSSD_STATE_BYTES_MAX) else {
      throw refusal("\(text) wants \(function.state_bytes) bytes of state")
    }
    try declarations(function, text)
  }

  private static func kinds(_ function: lossd_function, _ text: String) throws(StatusError) {
    for index in 0..<Int(function.accumulator_count) {
      let kind = function.kind(ofAccumulator: index)
      guard kind <= UInt32(LOSSD_SUM) else {
        throw refusal("\(text)'s accumulator \(index) has the unknown kind \(kind)")
      }
      guard kind == UInt32(LOSSD_PLAIN) || function.merge == nil else {
        throw refusal("\(text) has a merge of its own and the sum \(index), which the host merges")
      }
    }
  }

  private static func declarations(
    _ function: lossd_function, _ text: String
  ) throws(StatusError) {
    var names = Set<String>()
    for index in 0..<Int(function.input_count) {
      let input = function.inputs[index]
      try declared(input.name, input.help, "input", text, &names)
      guard input.data_types != 0, input.data_types & ~0x7FE == 0 else {
        throw refusal("\(text)'s input \(index) has a wrong set of data types")
      }
    }
    names.removeAll()
    var hasResult = false
    for index in 0..<Int(function.output_count) {
      let output = function.outputs[index]
      try declared(output.name, output.help, "output", text, &names)
      guard output.may_overwrite >= -1, output.may_overwrite < Int32(function.input_count) else {
        throw refusal("\(text)'s output \(index) overwrites an input that does not exist")
      }
      if output.flags & UInt32(LOSSD_OUTPUT_DEFAULT) != 0 { hasResult = true }
    }
    guard hasResult else { throw refusal("\(text) has no output marked as the default") }
    names.removeAll()
    for index in 0..<Int(function.attribute_count) {
      let attribute = function.attributes[index]
      try declared(attribute.name, attribute.help, "attribute", text, &names)
      guard (UInt32(LOSSD_VALUE_BOOL)...UInt32(LOSSD_VALUE_STRING)).contains(attribute.type) else {
        throw refusal("\(text)'s attribute \(index) has the unknown type \(attribute.type)")
      }
      try values(attribute, "\(text)'s attribute \(index)")
      try role(attribute, function, "\(text)'s attribute \(index)")
    }
    for (count, list, what) in [
      (function.accumulator_count, function.accumulators, "accumulator"),
      (function.value_count, function.values, "value"),
    ] {
      names.removeAll()
      for index in 0..<Int(count) {
        try declared(list?[index], "", what, text, &names)
      }
    }
  }

  /// What it says about batches, which clients rely on.
  private static func role(
    _ attribute: lossd_attribute, _ function: lossd_function, _ what: String
  ) throws(StatusError) {
    if attribute.flags & UInt32(LOSSD_ATTRIBUTE_DIMENSION) != 0 {
      guard attribute.type == UInt32(LOSSD_VALUE_INT) else {
        throw refusal("\(what) is said to be a dimension and is no int")
      }
    }
    guard attribute.flags & UInt32(LOSSD_ATTRIBUTE_REDUCTION) != 0 else { return }
    guard attribute.type == UInt32(LOSSD_VALUE_STRING) else {
      throw refusal("\(what) is said to be a reduction and is no string")
    }
    let sums = (0..<Int(function.accumulator_count)).map { index in
      function.accumulators[index].map { String(cString: $0) }
    }
    guard sums.contains("loss_sum"), sums.contains("weight_sum") else {
      throw refusal(
        "\(what) is said to be a reduction, of accumulators loss_sum and weight_sum, which are not "
          + "there"
      )
    }
  }

  /// The most choices that a string may have.
  static let choicesMax = 1024

  private static func values(_ attribute: lossd_attribute, _ what: String) throws(StatusError) {
    for value in [attribute.default_value, attribute.minimum, attribute.maximum] {
      guard value.kind == UInt32(LOSSD_VALUE_NONE) || value.kind == attribute.type else {
        throw refusal("\(what) has a default or bound of another type")
      }
      if value.kind == UInt32(LOSSD_VALUE_STRING) {
        try text(value.as.string, "default", what)
      }
    }
    try bounds(attribute, what)
    guard let choices = attribute.choices else { return }
    var count = 0
    var hasDefault = attribute.default_value.kind == UInt32(LOSSD_VALUE_NONE)
    while let choice = choices[count] {
      guard count < choicesMax else { throw refusal("\(what) has more than \(choicesMax) choices") }
      try text(choice, "choice", what)
      if !hasDefault, let own = attribute.default_value.as.string {
        hasDefault = String(cString: own) == String(cString: choice)
      }
      count += 1
    }
    guard hasDefault || attribute.type != UInt32(LOSSD_VALUE_STRING) else {
      throw refusal("\(what)'s default is none of its choices")
    }
  }

  /// A default that no caller could set is a mistake, and so are bounds that nothing lies between.
  private static func bounds(_ attribute: lossd_attribute, _ what: String) throws(StatusError) {
    let (least, most) = (attribute.minimum, attribute.maximum)
    let value = attribute.default_value
    func has(_ value: lossd_value) -> Bool { value.kind != UInt32(LOSSD_VALUE_NONE) }
    /// Whether the first is at most the second; a NaN never is.
    func isOrdered(_ low: lossd_value, _ high: lossd_value) -> Bool {
      guard has(low), has(high) else { return true }
      return switch Int32(attribute.type) {
      case LOSSD_VALUE_INT: low.as.integer <= high.as.integer
      case LOSSD_VALUE_FLOAT: low.as.floating <= high.as.floating
      default: true
      }
    }
    func text(_ value: lossd_value) -> String {
      attribute.type == UInt32(LOSSD_VALUE_INT)
        ? "\(value.as.integer)" : "\(value.as.floating)"
    }
    guard isOrdered(least, most) else {
      throw refusal("\(what) has the minimum \(text(least)), over its maximum \(text(most))")
    }
    guard isOrdered(least, value) else {
      throw refusal("\(what) has the default \(text(value)), under its minimum \(text(least))")
    }
    guard isOrdered(value, most) else {
      throw refusal("\(what) has the default \(text(value)), over its maximum \(text(most))")
    }
  }

  static let nameBytesMax = 64
  static let textBytesMax = 4096

  /// What people read, and clients' protobuf too: UTF-8 on one line.
  private static func text(
    _ text: UnsafePointer<CChar>?, _ what: String, _ whose: String, max: Int = textBytesMax
  ) throws(StatusError) {
    guard let text else { throw refusal("\(whose) has no \(what)") }
    let bytes = UnsafeRawBufferPointer(start: text, count: strnlen(text, max + 1))
    guard bytes.count <= max else { throw refusal("\(whose) has a \(what) of over \(max) bytes") }
    guard String(validating: bytes, as: UTF8.self) != nil,
      !bytes.contains(where: { $0 < 32 || $0 == 127 })
    else { throw refusal("\(whose) has a \(what) that is not a line of UTF-8") }
  }

  private static func declared(
    _ name: UnsafePointer<CChar>?, _ help: UnsafePointer<CChar>?, _ what: String,
    _ function: String, _ names: inout Set<String>
  ) throws(StatusError) {
    guard let name, name.pointee != 0 else {
      throw refusal("an \(what) of \(function) has no name")
    }
    try text(name, "name of an \(what)", function, max: nameBytesMax)
    try text(help, "help of the \(what) \(String(cString: name))", function)
    let text = String(cString: name)
    guard names.insert(text).inserted else {
      throw refusal("\(function) declares the \(what) \(text) twice")
    }
  }

  private static func count(
    _ count: UInt32, _ max: Int32, _ hasArray: Bool, _ what: String, _ function: String
  ) throws(StatusError) {
    guard count <= UInt32(max) else {
      throw refusal("\(function) declares \(count) \(what), the most there can be is \(max)")
    }
    guard count == 0 || hasArray else { throw refusal("\(function)'s \(what) are NULL") }
  }

  private static func name(_ name: UnsafePointer<CChar>?, _ what: String) throws(StatusError) {
    guard let name else { throw refusal("a \(what) has no name") }
    let text = String(cString: name)
    let letters = UInt8(ascii: "a")...UInt8(ascii: "z")
    let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
    let isGood = text.utf8.allSatisfy {
      letters.contains($0) || digits.contains($0) || $0 == UInt8(ascii: "_")
        || $0 == UInt8(ascii: ".")
    }
    guard let first = text.utf8.first, letters.contains(first), isGood, text.utf8.count <= 64 else {
      throw refusal("the \(what) name `\(text)` is not [a-z][a-z0-9_.]* of at most 64 bytes")
    }
  }

  private static func refusal(_ text: String) -> StatusError {
    StatusError(.failedPrecondition, "plugin refused: \(text)")
  }
}
