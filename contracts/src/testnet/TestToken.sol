// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

/// @title  A token for testnets: anyone may mint
/// @notice ERC-20 and nothing more. It has no value and must not be deployed where it could be taken for something.
contract TestToken {
    string public name;
    string public symbol;
    uint8 public immutable decimals;
    uint256 public totalSupply;
    mapping(address owner => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    error NotEnoughBalance(address owner, uint256 wanted, uint256 available);
    error NotEnoughAllowance(address owner, address spender, uint256 wanted, uint256 available);

    constructor(string memory name_, string memory symbol_, uint8 decimals_) {
        name = name_;
        symbol = symbol_;
        decimals = decimals_;
    }

    /// @notice Makes `value` out of nothing for `to`.
    function mint(address to, uint256 value) external {
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    /// @notice Lets `spender` take up to `value` from the caller.
    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    /// @notice Sends `value` from the caller to `to`.
    function transfer(address to, uint256 value) public virtual returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }

    /// @notice Sends `value` from `from` to `to`, out of what `from` has allowed the caller.
    function transferFrom(address from, address to, uint256 value) public virtual returns (bool) {
        uint256 allowed = allowance[from][msg.sender];
        require(allowed >= value, NotEnoughAllowance(from, msg.sender, value, allowed));
        if (allowed != type(uint256).max) allowance[from][msg.sender] = allowed - value;
        _move(from, to, value);
        return true;
    }

    function _move(address from, address to, uint256 value) internal {
        uint256 available = balanceOf[from];
        require(available >= value, NotEnoughBalance(from, value, available));
        balanceOf[from] = available - value;
        balanceOf[to] += value;
        emit Transfer(from, to, value);
    }
}
