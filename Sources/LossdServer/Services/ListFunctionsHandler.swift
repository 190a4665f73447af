import CLossdPlugin
import LossdEngine
import LossdTensor
import LossdWire

/// ListFunctions: what the daemon can evaluate.
final class ListFunctionsHandler: QueryHandler {
  private var name = ""

  override func decode(
    _ message: UnsafeRawBufferPointer, _ arena: MessageArena
  ) throws(StatusError) {
    name = try ListFunctionsRequest(decoding: message, in: arena).name
  }

  override func answer(_ call: Call) throws(StatusError) {
    var functions = context.registry.table.entries.map(FunctionDescription.init)
    if !name.isEmpty {
      functions.removeAll { $0.name != name }
      if functions.isEmpty {
        throw StatusError(
          .notFound,
          "no function named `\(displayed(name))`"
            + context.registry.table.didYouMean(displayed(name)))
      }
    }
    try call.respond(.functions(ListFunctionsResponse(functions: functions)))
  }

  private func displayed(_ name: String) -> String {
    var name = name
    return name.withUTF8 { displayText(UnsafeRawBufferPointer($0)) }
  }
}

extension FunctionDescription {
  /// What a function declares.
  public init(_ entry: FunctionEntry) {
    self.init(
      name: entry.name,
      kind: entry.function.pointee.kind == UInt32(LOSSD_KIND_LOSS) ? "loss" : "activation",
      summary: String(cString: entry.function.pointee.summary),
      inputs: entry.inputs.map(Input.init), outputs: [],
      attributes: entry.attributes.map(Attribute.init), plugin: entry.plugin,
      version: entry.pluginVersion, isOrderFree: entry.isOrderFree)
    // What is known only to be refused is not offered.
    for output in entry.outputs where output.flags & UInt32(LOSSD_OUTPUT_UNIMPLEMENTED) == 0 {
      outputs.append(
        Output(
          name: String(cString: output.name), help: String(cString: output.help),
          isDefault: output.flags & UInt32(LOSSD_OUTPUT_DEFAULT) != 0,
          hasRows: output.flags & UInt32(LOSSD_OUTPUT_ROWS) != 0))
    }
  }
}

extension FunctionDescription.Input {
  init(_ input: lossd_input) {
    self.init(
      name: String(cString: input.name), help: String(cString: input.help),
      dataTypes: DataType.allCases.filter { input.data_types & (1 << $0.rawValue) != 0 },
      isRequired: input.flags & UInt32(LOSSD_INPUT_REQUIRED) != 0,
      isKept: input.flags & UInt32(LOSSD_INPUT_KEPT) != 0,
      batching: .init(input.flags), isClasses: input.flags & UInt32(LOSSD_INPUT_CLASSES) != 0)
  }
}

extension FunctionDescription.Batching {
  init(_ flags: UInt32) {
    if flags & UInt32(LOSSD_INPUT_ROWS) != 0 {
      self = .rows
    } else if flags & UInt32(LOSSD_INPUT_BROADCAST) != 0 {
      self = .broadcast
    } else {
      self = flags & UInt32(LOSSD_INPUT_UPSTREAM) != 0 ? .upstream : .whole
    }
  }
}

extension FunctionDescription.Attribute {
  init(_ attribute: lossd_attribute) {
    let types = [1: "bool", 2: "int", 3: "float", 4: "string"]
    var choices: [String] = []
    var index = 0
    while let choice = attribute.choices?[index] {
      choices.append(String(cString: choice))
      index += 1
    }
    self.init(
      name: String(cString: attribute.name), help: String(cString: attribute.help),
      type: types[Int(attribute.type)] ?? "",
      isRequired: attribute.flags & UInt32(LOSSD_ATTRIBUTE_REQUIRED) != 0,
      defaultValue: AttributeValue(attribute.default_value),
      minimum: AttributeValue(attribute.minimum), maximum: AttributeValue(attribute.maximum),
      choices: choices,
      role: attribute.flags & UInt32(LOSSD_ATTRIBUTE_DIMENSION) != 0
        ? "dimension" : attribute.flags & UInt32(LOSSD_ATTRIBUTE_REDUCTION) != 0 ? "reduction" : "")
  }
}

extension AttributeValue {
  init?(_ value: lossd_value) {
    switch Int32(value.kind) {
    case LOSSD_VALUE_BOOL: self = .bool(value.as.integer != 0)
    case LOSSD_VALUE_INT: self = .int(value.as.integer)
    case LOSSD_VALUE_FLOAT: self = .float(value.as.floating)
    case LOSSD_VALUE_STRING:
      self = .string(value.as.string.map { String(cString: $0) } ?? "")
    default: return nil
    }
  }
}
