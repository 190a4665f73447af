import CLossdPlugin
import Glibc
import LossdTensor

extension Evaluation {
  /// What a call asks for: its function's inputs, attributes and results, as plugin.h lays a call
  /// out. Each setter checks what it is given against the declaration, and throws INVALID_ARGUMENT
  /// with the function's name.
  public struct Request: ~Copyable {
    /// Outputs asked for, in the order of the request.
    public private(set) var wantedOutputs: [Int] = []
    /// Inputs, by bit, whose memory is this call's alone, so that a result may take its place: to
    /// be set before the plan is made.
    public var ownInputs: UInt64 = 0
    /// Results that go to memory that the request names: their places in the request, and where to.
    public private(set) var placements: [Placement] = []
    /// Inputs that somebody else may change at any time: they are copied before anything looks at
    /// them.
    private(set) var copies: [(input: Int, from: UnsafeRawPointer)] = []

    /// Where one result goes, bytes.
    public struct Placement {
      public var position: Int
      public var base: UnsafeMutableRawPointer
      public var count: Int
    }

    /// The evaluation has it, and outlives the request.
    private var function: Unretained<FunctionEntry>
    let inputs: UnsafeMutablePointer<lossd_tensor>
    /// The results: types and shapes by the plan, memory once they are bound.
    let outputs: UnsafeMutablePointer<lossd_tensor>
    let attributes: UnsafeMutablePointer<lossd_value>
    let call: UnsafeMutablePointer<lossd_call>
    private var text: [UnsafeMutablePointer<CChar>] = []

    init(_ entry: FunctionEntry, _ layout: inout CallLayout) {
      function = Unretained(entry)
      inputs = layout.place(Int(LOSSD_INPUTS_MAX))
      outputs = layout.place(Int(LOSSD_OUTPUTS_MAX))
      attributes = layout.place(Int(LOSSD_ATTRIBUTES_MAX))
      // The evaluation's address lies behind the call, for `cancelled`.
      call = layout.place(
        byteCount: MemoryLayout<lossd_call>.stride + MemoryLayout<UnsafeRawPointer>.stride
      ).bindMemory(to: lossd_call.self, capacity: 1)
      call.initialize(to: lossd_call())
    }

    deinit { for text in text { free(text) } }

    var entry: FunctionEntry { function.object }

    /// Nothing is set, attributes are at their defaults, nothing is wanted.
    mutating func begin(
      _ entry: FunctionEntry, state: UnsafeMutableRawPointer, totals: UnsafeMutablePointer<Double>
    ) {
      function = Unretained(entry)
      for text in text { free(text) }
      text.removeAll(keepingCapacity: true)
      wantedOutputs.removeAll(keepingCapacity: true)
      for index in 0..<entry.inputs.count { inputs[index] = lossd_tensor() }
      for index in 0..<entry.outputs.count { outputs[index] = lossd_tensor() }
      for index in 0..<entry.attributes.count {
        attributes[index] = entry.attributes[index].default_value
      }
      call.pointee = lossd_call(
        struct_size: UInt32(MemoryLayout<lossd_call>.size), reserved: 0, host: Host.table,
        function: entry.function, inputs: inputs, outputs: outputs, attributes: attributes,
        wanted: 0, state: state, workspace: nil, totals: totals)
      ownInputs = 0
      placements.removeAll(keepingCapacity: true)
      copies.removeAll(keepingCapacity: true)
    }

    /// Takes the attributes and wanted results of another of the same function, which must stay
    /// alive.
    mutating func takeSettings(of other: borrowing Request) {
      for index in 0..<entry.attributes.count { attributes[index] = other.attributes[index] }
      wantedOutputs = other.wantedOutputs
      call.pointee.wanted = other.call.pointee.wanted
    }

    /// Erases texts of its own.
    func erase() {
      for value in 0..<entry.attributes.count {
        let value = attributes[value]
        guard value.kind == UInt32(LOSSD_VALUE_STRING), let text = value.as.string,
          self.text.contains(where: { UnsafePointer($0) == text })
        else { continue }
        UnsafeMutableRawPointer(mutating: text).initializeMemory(
          as: UInt8.self, repeating: 0, count: Int(value.length))
      }
    }

    // MARK: - Setting up

    /// Sets the input of this name. The tensor's memory, shape included, is borrowed until the end.
    public mutating func setInput(
      _ name: UnsafeRawBufferPointer, _ tensor: TensorView
    ) throws(StatusError) {
      guard let index = entry.input(named: name) else {
        let names = entry.inputs.map { String(cString: $0.name) }
        throw entry.invalid(
          "no input named `\(printable(name))`; it takes \(list(names))"
            + didYouMean(printable(name), among: names))
      }
      try setInput(index, tensor)
    }

    /// Sets the input at this place of the declaration.
    public mutating func setInput(_ index: Int, _ tensor: TensorView) throws(StatusError) {
      var name: String { String(cString: entry.inputs[index].name) }
      guard inputs[index].data_type == 0 else {
        throw entry.invalid("the input `\(name)` is given twice")
      }
      guard entry.inputs[index].data_types & (1 << tensor.dataType.rawValue) != 0 else {
        let types = DataType.allCases.filter {
          entry.inputs[index].data_types & (1 << $0.rawValue) != 0
        }
        throw entry.invalid(
          "\(name) is \(tensor.dataType), expected \(list(types.map(\.description)))")
      }
      inputs[index] = lossd_tensor(
        data: tensor.data, shape: tensor.shape.baseAddress, element_count: Int64(tensor.count),
        rank: UInt32(tensor.rank), data_type: tensor.dataType.rawValue)
    }

    /// Sets an input whose elements are to be copied from `source` to the tensor's memory, before
    /// anything looks at them.
    public mutating func setInput(
      _ index: Int, _ tensor: TensorView, copiedFrom source: UnsafeRawPointer
    ) throws(StatusError) {
      try setInput(index, tensor)
      copies.append((index, source))
    }

    /// The same elements, which have been copied elsewhere.
    public func moveInput(_ index: Int, to base: UnsafeMutableRawPointer) {
      inputs[index].data = base
    }

    /// The result at this place of the request goes to this memory, which it fills exactly.
    public mutating func place(_ position: Int, at base: UnsafeMutableRawPointer, count: Int) {
      placements.append(Placement(position: position, base: base, count: count))
    }

    /// The input at this place of the declaration; nil when it was not set.
    public func inputView(_ index: Int) -> TensorView? {
      let raw = inputs[index]
      guard let type = DataType(rawValue: raw.data_type) else { return nil }
      return TensorView(
        data: raw.data, shape: UnsafeBufferPointer(start: raw.shape, count: Int(raw.rank)),
        count: Int(raw.element_count), dataType: type)
    }

    public func hasInput(_ index: Int) -> Bool { inputs[index].data_type != 0 }

    /// Sets the attribute of this name; an int is taken where a float is declared.
    public mutating func setAttribute(
      _ name: UnsafeRawBufferPointer, _ value: AttributeArgument
    ) throws(StatusError) {
      guard let index = entry.attribute(named: name) else {
        let names = entry.attributes.map { String(cString: $0.name) }
        throw entry.invalid(
          "no attribute named `\(printable(name))`; it takes \(list(names))"
            + didYouMean(printable(name), among: names))
      }
      try setAttribute(index, value)
    }

    /// Sets the attribute at this place of the declaration.
    public mutating func setAttribute(_ index: Int, _ value: AttributeArgument) throws(StatusError)
    {
      let declared = entry.attributes[index]
      guard let converted = try convert(value, to: declared.type) else {
        throw entry.invalid(
          "the attribute \(String(cString: declared.name)) is \(value.kindText), expected "
            + AttributeArgument.kindText(declared.type))
      }
      try check(converted, declared)
      attributes[index] = converted
    }

    /// Asks for the output of this name.
    public mutating func want(_ name: UnsafeRawBufferPointer) throws(StatusError) {
      guard let index = entry.output(named: name) else {
        let names = entry.outputs.filter { $0.flags & UInt32(LOSSD_OUTPUT_UNIMPLEMENTED) == 0 }
          .map { String(cString: $0.name) }
        throw entry.invalid(
          "no output named `\(printable(name))`; it gives \(list(names))"
            + didYouMean(printable(name), among: names))
      }
      try want(index)
    }

    /// Asks for the output at this place of the declaration.
    public mutating func want(_ index: Int) throws(StatusError) {
      let declared = entry.outputs[index]
      guard declared.flags & UInt32(LOSSD_OUTPUT_UNIMPLEMENTED) == 0 else {
        throw StatusError(
          .unimplemented,
          "\(entry.name): \(String(cString: declared.name)): \(String(cString: declared.help))")
      }
      guard call.pointee.wanted & (1 << UInt64(index)) == 0 else {
        throw entry.invalid("the output `\(String(cString: declared.name))` is asked for twice")
      }
      call.pointee.wanted |= 1 << UInt64(index)
      wantedOutputs.append(index)
    }

    public mutating func wantDefault() {
      let index = entry.defaultOutput
      call.pointee.wanted = 1 << UInt64(index)
      wantedOutputs.removeAll(keepingCapacity: true)
      wantedOutputs.append(index)
    }

    private mutating func convert(
      _ value: AttributeArgument, to type: UInt32
    ) throws(StatusError) -> lossd_value? {
      var result = lossd_value()
      result.kind = type
      switch (value, type) {
      case (.bool(let bool), UInt32(LOSSD_VALUE_BOOL)): result.as.integer = bool ? 1 : 0
      case (.int(let int), UInt32(LOSSD_VALUE_INT)): result.as.integer = int
      case (.int(let int), UInt32(LOSSD_VALUE_FLOAT)): result.as.floating = Double(int)
      case (.float(let float), UInt32(LOSSD_VALUE_FLOAT)): result.as.floating = float
      case (.string(let bytes), UInt32(LOSSD_VALUE_STRING)):
        guard let length = UInt32(exactly: bytes.count), let memory = malloc(bytes.count + 1) else {
          throw AlignedBuffer.exhausted(bytes.count)
        }
        let copy = memory.bindMemory(to: CChar.self, capacity: bytes.count + 1)
        for index in 0..<bytes.count { copy[index] = CChar(bitPattern: bytes[index]) }
        copy[bytes.count] = 0
        text.append(copy)
        result.length = length
        result.as.string = UnsafePointer(copy)
      default: return nil
      }
      return result
    }

    private func check(_ value: lossd_value, _ declared: lossd_attribute) throws(StatusError) {
      let name = String(cString: declared.name)
      switch Int32(value.kind) {
      case LOSSD_VALUE_INT:
        let number = value.as.integer
        if declared.minimum.kind != 0 && number < declared.minimum.as.integer
          || declared.maximum.kind != 0 && number > declared.maximum.as.integer
        {
          throw entry.invalid("\(name) is \(number), outside \(range(declared))")
        }
      case LOSSD_VALUE_FLOAT:
        let number = value.as.floating
        if declared.minimum.kind != 0 && !(number >= declared.minimum.as.floating)
          || declared.maximum.kind != 0 && !(number <= declared.maximum.as.floating)
        {
          throw entry.invalid("\(name) is \(number), outside \(range(declared))")
        }
      case LOSSD_VALUE_STRING:
        guard let choices = declared.choices else { return }
        let bytes = UnsafeRawBufferPointer(start: value.as.string, count: Int(value.length))
        var names: [String] = []
        var index = 0
        while let choice = choices[index] {
          if matches(choice, bytes) { return }
          names.append(String(cString: choice))
          index += 1
        }
        throw entry.invalid("\(name) is `\(printable(bytes))`, expected \(list(names))")
      default: return
      }
    }

    private func range(_ declared: lossd_attribute) -> String {
      func text(_ value: lossd_value, _ none: String) -> String {
        if value.kind == 0 { return none }
        return value.kind == UInt32(LOSSD_VALUE_INT)
          ? "\(value.as.integer)" : "\(value.as.floating)"
      }
      return "[\(text(declared.minimum, "-inf")), \(text(declared.maximum, "inf"))]"
    }

    /// The attribute at this place of the declaration, checked; kind LOSSD_VALUE_NONE when it has
    /// no value.
    public func attribute(_ index: Int) -> lossd_value { attributes[index] }

    /// INVALID_ARGUMENT where an input or attribute that must be there is not, or an input has too
    /// many dimensions.
    public func checkRequired() throws(StatusError) {
      for index in 0..<entry.inputs.count where inputs[index].rank > UInt32(LOSSD_RANK_MAX) {
        throw entry.invalid(
          "\(String(cString: entry.inputs[index].name)) has \(inputs[index].rank) dimensions, over "
            + "the limit of \(LOSSD_RANK_MAX)")
      }
      for index in 0..<entry.inputs.count
      where entry.inputs[index].flags & UInt32(LOSSD_INPUT_REQUIRED) != 0 && !hasInput(index) {
        throw entry.invalid("the input `\(String(cString: entry.inputs[index].name))` is missing")
      }
      for index in 0..<entry.attributes.count
      where entry.attributes[index].flags & UInt32(LOSSD_ATTRIBUTE_REQUIRED) != 0
        && attributes[index].kind == 0
      {
        throw entry.invalid(
          "the attribute `\(String(cString: entry.attributes[index].name))` is missing")
      }
    }

    static func byteCount(_ tensor: lossd_tensor) -> Int {
      Int(tensor.element_count) * (DataType(rawValue: tensor.data_type)?.byteSize ?? 0)
    }
  }
}

extension AttributeArgument {
  var kindText: String {
    switch self {
    case .bool: "a bool"
    case .int: "an int"
    case .float: "a float"
    case .string: "a string"
    case .none: "without a value"
    }
  }

  static func kindText(_ type: UInt32) -> String {
    switch Int32(type) {
    case LOSSD_VALUE_BOOL: "a bool"
    case LOSSD_VALUE_INT: "an int"
    case LOSSD_VALUE_FLOAT: "a float or an int"
    default: "a string"
    }
  }
}

/// Client text made fit for an error message: at most 64 bytes, what is not printable ASCII as `?`.
func printable(_ bytes: UnsafeRawBufferPointer) -> String {
  let shown = bytes.prefix(64).map { (32..<127).contains($0) ? $0 : UInt8(ascii: "?") }
  return String(decoding: shown, as: UTF8.self) + (bytes.count > 64 ? "..." : "")
}

func list(_ names: [String]) -> String { names.isEmpty ? "none" : names.joined(separator: ", ") }
